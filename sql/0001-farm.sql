-- SPDX-License-Identifier: GPL-3.0-or-later
-- The farm's schema. Desired state (vms) and actual state (vm_runtimes,
-- host_runtimes) are separate tables with separate writers; see
-- docs/internals.md. Word lists in CHECKs equal model/states.h (tested).
-- Applied by db/migrate.c as qvd_owner with search_path = qvd; the schema, the
-- roles and the table migrations exist by then.

CREATE TABLE tenants (
	id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name        text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
	description text,
	blocked     boolean NOT NULL DEFAULT false,
	-- which range of 65,536 host uids its containers use
	idmap_slot  integer NOT NULL UNIQUE CHECK (idmap_slot BETWEEN 0 AND 999),
	created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE SEQUENCE user_uids AS integer MINVALUE 2000 MAXVALUE 59999 NO CYCLE;

CREATE TABLE users (
	id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id     integer NOT NULL REFERENCES tenants,
	login         text NOT NULL CHECK (login ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
	password_hash text,            -- crypt(5), yescrypt; NULL: no local login
	uid           integer NOT NULL DEFAULT nextval('user_uids'),
	full_name     text,
	blocked       boolean NOT NULL DEFAULT false,
	created_at    timestamptz NOT NULL DEFAULT now(),
	UNIQUE (tenant_id, login)
);

CREATE TABLE hosts (
	id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name       text NOT NULL UNIQUE,
	address    text NOT NULL,
	blocked    boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE host_runtimes (
	host_id      integer PRIMARY KEY REFERENCES hosts ON DELETE CASCADE,
	state        text NOT NULL DEFAULT 'stopped'
	             CHECK (state IN ('stopped', 'starting', 'running', 'stopping', 'lost')),
	state_at     timestamptz NOT NULL DEFAULT now(),
	lease_until  timestamptz,
	memory_bytes bigint,
	cpus         integer,
	version      text
);

CREATE TABLE osfs (
	id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id    integer NOT NULL REFERENCES tenants,
	name         text NOT NULL CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
	description  text,
	kind         text NOT NULL DEFAULT 'desktop' CHECK (kind IN ('desktop', 'application')),
	hypervisor   text NOT NULL DEFAULT 'lxc' CHECK (hypervisor IN ('lxc', 'kvm')),
	root         text NOT NULL DEFAULT 'persistent' CHECK (root IN ('persistent', 'volatile')),
	memory_mb    integer NOT NULL DEFAULT 1024 CHECK (memory_mb BETWEEN 16 AND 4194304),
	swap_mb      integer NOT NULL DEFAULT 0 CHECK (swap_mb BETWEEN 0 AND 4194304),
	cpu_percent  integer NOT NULL DEFAULT 0 CHECK (cpu_percent BETWEEN 0 AND 102400), -- 100 = one CPU; 0 = no quota
	cpu_weight   integer NOT NULL DEFAULT 100 CHECK (cpu_weight BETWEEN 1 AND 10000),
	pids_max     integer NOT NULL DEFAULT 2048 CHECK (pids_max BETWEEN 16 AND 1000000),
	home_mb      integer NOT NULL DEFAULT 0 CHECK (home_mb >= 0),   -- 0 = no quota
	created_at   timestamptz NOT NULL DEFAULT now(),
	UNIQUE (tenant_id, name)
);

CREATE TABLE images (
	id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	osf_id      integer NOT NULL REFERENCES osfs,
	version     text NOT NULL CHECK (version ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
	parent_id   integer REFERENCES images,
	state       text NOT NULL DEFAULT 'new'
	            CHECK (state IN ('new', 'importing', 'published', 'retired', 'failed')),
	state_at    timestamptz NOT NULL DEFAULT now(),
	blocked     boolean NOT NULL DEFAULT false,
	host_id     integer REFERENCES hosts ON DELETE SET NULL, -- that imports it; NULL: any
	source      text NOT NULL CHECK (source LIKE '/%'), -- tree or archive on that node
	checksum    text,                -- of the OSTree commit
	size_bytes  bigint,
	author      text,
	message     text,
	progress    integer,             -- percent while importing
	error_id    text,
	error       text,
	created_at  timestamptz NOT NULL DEFAULT now(),
	UNIQUE (osf_id, version)
);

CREATE TABLE image_tags (
	osf_id   integer NOT NULL REFERENCES osfs ON DELETE CASCADE,
	tag      text NOT NULL CHECK (tag ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
	image_id integer NOT NULL REFERENCES images ON DELETE CASCADE,
	fixed    boolean NOT NULL DEFAULT false,
	moved_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (osf_id, tag)
);

CREATE TABLE image_nodes (
	image_id integer NOT NULL REFERENCES images ON DELETE CASCADE,
	host_id  integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
	state    text NOT NULL CHECK (state IN ('importing', 'present', 'failed')),
	state_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (image_id, host_id)
);

CREATE TABLE vms (
	id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name        text NOT NULL CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$'),
	user_id     integer NOT NULL REFERENCES users,
	osf_id      integer NOT NULL REFERENCES osfs,
	tag         text NOT NULL DEFAULT 'default',
	address     inet NOT NULL UNIQUE,
	blocked     boolean NOT NULL DEFAULT false,
	desired     text NOT NULL DEFAULT 'stopped' CHECK (desired IN ('stopped', 'running')),
	desired_at  timestamptz NOT NULL DEFAULT now(),
	desired_by  text,                -- "user alice@default", "admin root", ...
	host_id     integer REFERENCES hosts,  -- placement; NULL when it has none
	epoch       bigint NOT NULL DEFAULT 0, -- the run that is desired
	description text,
	created_at  timestamptz NOT NULL DEFAULT now(),
	UNIQUE (user_id, name)
);
CREATE INDEX vms_host ON vms (host_id);

CREATE TABLE vm_runtimes (
	vm_id      integer PRIMARY KEY REFERENCES vms ON DELETE CASCADE,
	epoch      bigint NOT NULL,       -- the run that this row speaks of
	state      text NOT NULL
	           CHECK (state IN ('stopped', 'starting', 'running', 'stopping', 'zombie')),
	state_at   timestamptz NOT NULL DEFAULT now(),
	host_id    integer NOT NULL REFERENCES hosts,
	image_id   integer REFERENCES images ON DELETE SET NULL,
	pid        integer,               -- of its init, on the host
	session    text NOT NULL DEFAULT 'stopped'
	           CHECK (session IN ('stopped', 'starting', 'listening', 'connected',
	                  'suspending', 'suspended', 'stopping')),
	session_at timestamptz NOT NULL DEFAULT now(),
	started_at timestamptz,
	step       text,                  -- what a start is doing, for people
	error_id   text,                  -- why the last run ended badly
	error      text,
	error_ref  text
);
CREATE INDEX vm_runtimes_host ON vm_runtimes (host_id);

CREATE TABLE sessions (
	vm_id      integer PRIMARY KEY REFERENCES vms ON DELETE CASCADE,
	generation bigint NOT NULL,       -- grows with every acquisition
	state      text NOT NULL CHECK (state IN ('disconnected', 'connecting', 'connected')),
	state_at   timestamptz NOT NULL DEFAULT now(),
	host_id    integer REFERENCES hosts,    -- whose L7R holds it
	user_id    integer REFERENCES users ON DELETE SET NULL,
	client_address text,
	client     text,                  -- User-Agent, at most 128 bytes
	key_hash   bytea                  -- SHA-256 of the slave key
);

CREATE TABLE tokens (
	id         bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- auth_params_id of the wire
	hash       bytea PRIMARY KEY,     -- SHA-256; the token itself is nowhere
	user_id    integer NOT NULL REFERENCES users ON DELETE CASCADE,
	vm_id      integer REFERENCES vms ON DELETE CASCADE,
	multi_use  boolean NOT NULL DEFAULT false,
	params     jsonb,                 -- saved auth parameters
	used_at    timestamptz,           -- first use: single-use ones live 60 s more
	expires_at timestamptz NOT NULL
);
CREATE INDEX tokens_expiry ON tokens (expires_at);

CREATE TABLE properties (
	kind      text NOT NULL CHECK (kind IN ('tenant', 'user', 'vm', 'host', 'osf', 'image')),
	object_id integer NOT NULL,
	key       text NOT NULL CHECK (key ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
	value     text NOT NULL CHECK (length(value) <= 32768),
	PRIMARY KEY (kind, object_id, key)
);

-- tenant_id 0 stands for the whole farm.
CREATE TABLE configs (
	tenant_id integer NOT NULL DEFAULT 0,
	key       text NOT NULL,
	value     text NOT NULL CHECK (length(value) <= 32768),
	PRIMARY KEY (tenant_id, key)
);

-- The timeline of everything: `qvd why`.
CREATE TABLE events (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at          timestamptz NOT NULL DEFAULT clock_timestamp(),
	name        text NOT NULL,        -- "vm.started", "session.failed", ...
	vm_id       integer,
	user_id     integer,
	host_id     integer,
	image_id    integer,
	text        text NOT NULL,        -- one sentence
	duration_ms bigint,
	error_id    text,
	ref         text                  -- the reference that a client was shown
);
CREATE INDEX events_vm ON events (vm_id, id) WHERE vm_id IS NOT NULL;
CREATE INDEX events_user ON events (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX events_host ON events (host_id, id) WHERE host_id IS NOT NULL;
CREATE INDEX events_image ON events (image_id, id) WHERE image_id IS NOT NULL;
CREATE INDEX events_ref ON events (ref) WHERE ref IS NOT NULL;

-- What administrators did: who, what, with which arguments.
CREATE TABLE audit (
	id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at        timestamptz NOT NULL DEFAULT clock_timestamp(),
	actor     text NOT NULL,
	action    text NOT NULL,
	object    text,
	arguments jsonb,
	error_id  text
);

-- A row changes, a NOTIFY wakes who cares. Payload: the row's id.
--   qvd_host_<id>    "vm <vm_id>"      to the node that holds the VM
--   qvd_vms          "<vm_id>"         vms row changed (API)
--   qvd_vm_runtimes  "<vm_id>"         state of a VM changed (brokers, API)
--   qvd_sessions     "<vm_id> <generation>"
--   qvd_images       "<image_id>"
--   qvd_configs      "<key>"
--   qvd_users        "<user_id>"
--   qvd_hosts        "<host_id>"       its row, or its state (not each renewal)
CREATE FUNCTION notify_vm() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP <> 'INSERT' AND OLD.host_id IS NOT NULL THEN
		PERFORM pg_notify('qvd_host_' || OLD.host_id, 'vm ' || OLD.id);
	END IF;
	IF TG_OP <> 'DELETE' THEN
		IF NEW.host_id IS NOT NULL AND
		    (TG_OP = 'INSERT' OR NEW.host_id IS DISTINCT FROM OLD.host_id) THEN
			PERFORM pg_notify('qvd_host_' || NEW.host_id, 'vm ' || NEW.id);
		END IF;
		PERFORM pg_notify('qvd_vms', NEW.id::text);
	ELSE
		PERFORM pg_notify('qvd_vms', OLD.id::text);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER vms_notify AFTER INSERT OR UPDATE OR DELETE ON vms
	FOR EACH ROW EXECUTE FUNCTION notify_vm();

CREATE FUNCTION notify_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	-- TG_ARGV: channel, column
	PERFORM pg_notify(TG_ARGV[0],
	    (CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END) ->> TG_ARGV[1]);
	RETURN NULL;
END $$;
CREATE TRIGGER vm_runtimes_notify AFTER INSERT OR UPDATE OR DELETE ON vm_runtimes
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_vm_runtimes', 'vm_id');
CREATE TRIGGER images_notify AFTER INSERT OR UPDATE OR DELETE ON images
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_images', 'id');
CREATE TRIGGER configs_notify AFTER INSERT OR UPDATE OR DELETE ON configs
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_configs', 'key');
CREATE TRIGGER users_notify AFTER UPDATE OR DELETE ON users
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_users', 'id');

CREATE TRIGGER hosts_notify AFTER INSERT OR UPDATE OR DELETE ON hosts
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_hosts', 'id');
CREATE TRIGGER host_runtimes_notify AFTER UPDATE ON host_runtimes
	FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
	EXECUTE FUNCTION notify_column('qvd_hosts', 'host_id');
CREATE TRIGGER host_runtimes_notify_new AFTER INSERT ON host_runtimes
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_hosts', 'host_id');

CREATE FUNCTION notify_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('qvd_sessions', NEW.vm_id || ' ' || NEW.generation);
	RETURN NULL;
END $$;
CREATE TRIGGER sessions_notify AFTER INSERT OR UPDATE ON sessions
	FOR EACH ROW EXECUTE FUNCTION notify_session();

-- Each daemon may do only its own writes.
GRANT USAGE ON SCHEMA qvd TO qvd_l7r, qvd_hkd, qvd_api;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA qvd TO qvd_api;
GRANT INSERT ON events TO qvd_l7r, qvd_hkd, qvd_api;

GRANT SELECT ON migrations, tenants, users, hosts, host_runtimes, osfs, images,
	image_tags, image_nodes, vms, vm_runtimes, sessions, tokens, properties,
	configs TO qvd_l7r;
GRANT UPDATE (desired, desired_at, desired_by, host_id, epoch) ON vms TO qvd_l7r;
GRANT INSERT, UPDATE ON sessions TO qvd_l7r;
GRANT INSERT, UPDATE, DELETE ON tokens TO qvd_l7r;

GRANT SELECT ON migrations, tenants, hosts, host_runtimes, osfs, images,
	image_tags, image_nodes, vms, vm_runtimes, sessions, properties, configs,
	events TO qvd_hkd;
GRANT SELECT (id, tenant_id, login, uid, full_name, blocked) ON users TO qvd_hkd;
GRANT INSERT, UPDATE, DELETE ON vm_runtimes, host_runtimes, image_nodes TO qvd_hkd;
GRANT UPDATE (state, state_at, checksum, size_bytes, progress, error_id, error)
	ON images TO qvd_hkd;

GRANT SELECT ON ALL TABLES IN SCHEMA qvd TO qvd_api;
REVOKE SELECT ON tokens FROM qvd_api;
GRANT INSERT, UPDATE, DELETE ON tenants, users, hosts, osfs, images, image_tags,
	vms, properties, configs TO qvd_api;
GRANT UPDATE (generation, state, state_at, key_hash) ON sessions TO qvd_api;
GRANT INSERT ON audit TO qvd_api;
GRANT DELETE ON events TO qvd_api;
