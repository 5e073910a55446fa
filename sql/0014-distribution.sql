-- SPDX-License-Identifier: GPL-3.0-or-later
-- Distribution: nodes get images from each other. A row of image_nodes says
-- what a node has of an image, or how far it is.

ALTER TABLE host_runtimes ADD COLUMN farm_address text; -- where it serves images; NULL: it doesn't

ALTER TABLE image_nodes
	DROP CONSTRAINT image_nodes_state_check,
	ADD CONSTRAINT image_nodes_state_check
	    CHECK (state IN ('importing', 'present', 'failed', 'pulling')),
	ADD COLUMN from_host_id integer REFERENCES hosts ON DELETE SET NULL,
	ADD COLUMN progress     integer,  -- percent while pulling
	ADD COLUMN step         text,     -- "12 of 503 MB"
	ADD COLUMN moved_bytes  bigint,   -- over the network
	ADD COLUMN error_id     text,
	ADD COLUMN error        text;

-- qvd_images "<image_id>": a node has it, or has failed to get it.
CREATE TRIGGER image_nodes_notify AFTER UPDATE ON image_nodes
	FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state AND NEW.state <> 'pulling')
	EXECUTE FUNCTION notify_column('qvd_images', 'image_id');

GRANT UPDATE (farm_address) ON host_runtimes TO qvd_hkd;

-- Nodes that are to get an image and don't have it yet. Until there is none, no
-- tag moves to it. A node that is down, or blocked, keeps nobody waiting.
CREATE VIEW image_awaits AS
	SELECT i.id AS image_id, h.id AS host_id, h.name AS host,
	    coalesce(n.state, 'waiting') AS state, n.progress, n.error
	FROM images i CROSS JOIN hosts h
	JOIN host_runtimes r ON r.host_id = h.id AND r.state = 'running'
	    AND r.lease_until > now() AND r.farm_address IS NOT NULL
	LEFT JOIN image_nodes n ON n.image_id = i.id AND n.host_id = h.id
	WHERE i.state IN ('ready', 'published') AND NOT h.blocked
	AND n.state IS DISTINCT FROM 'present'
	AND EXISTS (SELECT FROM image_nodes s JOIN host_runtimes sr ON sr.host_id = s.host_id
	    WHERE s.image_id = i.id AND s.state = 'present' AND sr.farm_address IS NOT NULL);
GRANT SELECT ON image_awaits TO qvd_api, qvd_hkd, qvd_l7r;
