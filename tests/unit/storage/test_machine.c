/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "storage/machine.h"

#define BUILTIN                                                        \
	"kernel/virtio-pci.ko\nkernel/virtio_blk.ko\nkernel/ext4.ko\n" \
	"kernel/virtio_net.ko\n"
#define DEP                                                         \
	"kernel/a/erofs.ko.xz: kernel/c/lz4-x.ko kernel/b/crc.ko\n" \
	"kernel/c/lz4-x.ko: kernel/b/crc.ko\nkernel/b/crc.ko:\n"    \
	"kernel/d/qemu_fw_cfg.ko:\nkernel/e/overlay.ko:\n"          \
	"kernel/f/unwanted.ko: kernel/b/crc.ko\n"

struct image {
	char dir[64];
	int fd;
};

static void
put(const struct image *im, const char *name, const char *text)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/%s", im->dir, name);
	_cleanup_(freep)
	char *dir = xstrdup(path);

	*strrchr(dir, '/') = '\0';
	assert_int_equal(fs_mkdirs(dir, 0755, NULL), 0);
	assert_int_equal(
	    fs_write_file(path, text, strlen(text), 0644, NULL), 0);
}

static void
image_open(struct image *im, const char *dep)
{
	static const char *const modules[] = { "a/erofs.ko.xz", "b/crc.ko",
		"c/lz4-x.ko", "d/qemu_fw_cfg.ko", "e/overlay.ko",
		"f/unwanted.ko" };
	size_t i;

	str_copy(im->dir, sizeof(im->dir), "/tmp/qvd-machine-XXXXXX");
	assert_non_null(mkdtemp(im->dir));
	put(im, "qvd-boot", "the first program");
	put(im, "qvd-vma", "the agent");
	for (i = 0; i < ARRAY_SIZE(modules); i++) {
		char name[80];

		snprintf(name, sizeof(name), "usr/lib/modules/6.1/kernel/%s",
		    modules[i]);
		put(im, name, modules[i]);
	}
	put(im, "usr/lib/modules/6.1/modules.builtin", BUILTIN);
	put(im, "usr/lib/modules/6.1/modules.dep", dep);
	/* As in a merged system, and not to be followed to the node's. */
	im->fd = open(im->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/usr/lib", im->fd, "lib"), 0);
}

static void
image_close(struct image *im)
{
	close(im->fd);
	fs_remove_tree(im->dir, NULL);
}

/* The names in the initrd, with spaces between; heap. */
static char *
names(const char *data, size_t len)
{
	_cleanup_(buf_done)
	struct buf out = BUF(65536);
	size_t at = 0;

	while (at + 110 < len) {
		char field[9] = "";
		size_t size, n;

		assert_memory_equal(data + at, "070701", 6);
		memcpy(field, data + at + 6 + 8 * 6, 8);
		size = strtoul(field, NULL, 16);
		memcpy(field, data + at + 6 + 8 * 11, 8);
		n = strtoul(field, NULL, 16);
		buf_printf(&out, "%s ", data + at + 110);
		if (str_eq(data + at + 110, "TRAILER!!!"))
			break;
		at += (110 + n + 3) & ~(size_t)3;
		at += (size + 3) & ~(size_t)3;
	}
	return buf_take_str(&out);
}

static int
write_it(const struct image *im, char **ret_names, struct err *err)
{
	_cleanup_(freep)
	char *path = xasprintf("%s/out", im->dir);
	_cleanup_(freep)
	char *data = NULL;
	size_t len;
	int r = initrd_write(im->fd, "6.1", im->dir, path, err);

	if (r == 0) {
		assert_int_equal(
		    fs_read_file(path, 1 << 20, &data, &len, NULL), 0);
		*ret_names = names(data, len);
	}
	return r;
}

static void
test_order_of_modules(void **state)
{
	struct image im;
	struct err err;
	_cleanup_(freep)
	char *said = NULL;

	image_open(&im, DEP);
	assert_int_equal(write_it(&im, &said, &err), 0);
	assert_string_equal(said,
	    "init qvd-vma modules modules/000-crc.ko modules/001-lz4-x.ko "
	    "modules/002-erofs.ko.xz modules/003-overlay.ko "
	    "modules/004-qemu_fw_cfg.ko TRAILER!!! ");
	image_close(&im);
}

static void
refuses(const char *dep, const char *because)
{
	struct image im;
	struct err err;
	char *said = NULL;

	image_open(&im, dep);
	assert_int_equal(write_it(&im, &said, &err), -(int)ERR_IMAGE);
	if (strstr(err.msg, because) == NULL)
		fail_msg("no '%s' in: %s", because, err.msg);
	image_close(&im);
}

static void
test_refuses(void **state)
{
	static const char dots[] = "././././././././././././";
	_cleanup_(buf_done)
	struct buf line = BUF(1 << 20);
	_cleanup_(freep)
	char *many = NULL;
	int i;

	refuses("kernel/a/erofs.ko.xz:\n", "no driver overlay");
	refuses("", "no driver erofs");
	refuses("::: \n\n:", "no driver erofs");
	refuses("erofs.ko: ../../../../../../etc/shadow\n", "open the image's");
	refuses("erofs.ko: missing.ko", "open the image's");
	refuses("erofs.ko: \x01\x02.ko", "makes no sense");
	/* One module under more names than there may be modules. */
	buf_printf(&line, "kernel/a/erofs.ko.xz:");
	for (i = 0; i < 121; i++)
		buf_printf(&line, " kernel/%.*sb/%.*scrc.ko", i % 11 * 2, dots,
		    i / 11 * 2, dots);
	many = buf_take_str(&line);
	refuses(many, "makes no sense");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_modules),
		cmocka_unit_test(test_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
