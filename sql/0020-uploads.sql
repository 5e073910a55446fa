-- SPDX-License-Identifier: GPL-3.0-or-later
-- Sources of images that come from where the administrator is, piece by piece. The
-- bytes are a file of the API's on one host; how many have arrived is here.

CREATE TABLE uploads (
	id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	host_id       integer NOT NULL REFERENCES hosts ON DELETE CASCADE,
	name          text NOT NULL CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$'),
	size_bytes    bigint NOT NULL CHECK (size_bytes > 0),
	sha256        text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),  -- of the whole file
	arrived_bytes bigint NOT NULL DEFAULT 0,
	author        text NOT NULL,
	created_at    timestamptz NOT NULL DEFAULT now(),
	touched_at    timestamptz NOT NULL DEFAULT now(),
	CHECK (arrived_bytes BETWEEN 0 AND size_bytes),
	UNIQUE (host_id, sha256, name)  -- the same file goes on where it was
);

ALTER TABLE images ADD COLUMN upload_id integer REFERENCES uploads ON DELETE SET NULL;
CREATE INDEX images_upload ON images (upload_id) WHERE upload_id IS NOT NULL;

-- Which are not needed any more: a version was made of it, or can't be; or nobody has
-- gone on with it. Never one of which a version is being made.
CREATE VIEW upload_surplus AS
	SELECT u.id FROM uploads u
	WHERE NOT EXISTS (SELECT FROM images i WHERE i.upload_id = u.id
	    AND i.state IN ('new', 'importing'))
	AND (u.touched_at < now() - interval '7 days'
	    OR EXISTS (SELECT FROM images i WHERE i.upload_id = u.id
		AND (i.state <> 'failed' OR i.error_id = 'image-unusable')));

-- qvd_uploads "<upload_id>": its file is to go.
CREATE TRIGGER uploads_notify AFTER DELETE ON uploads
	FOR EACH ROW EXECUTE FUNCTION notify_column('qvd_uploads', 'id');

GRANT SELECT, INSERT, DELETE ON uploads TO qvd_api;
GRANT UPDATE (arrived_bytes, touched_at) ON uploads TO qvd_api;
GRANT SELECT ON upload_surplus TO qvd_api;
GRANT SELECT (id, sha256) ON uploads TO qvd_hkd;
