-- SPDX-License-Identifier: GPL-3.0-or-later
-- How far long work on images is, also for who waits for it on another node.

COMMENT ON COLUMN image_nodes.progress IS 'percent while importing or pulling';
COMMENT ON COLUMN image_nodes.step IS 'what is done: "reading the archive", "12 of 503 MB"';

-- qvd_image_progress "<image_id>": how far a node is with it.
CREATE TRIGGER image_nodes_notify_progress AFTER UPDATE ON image_nodes FOR EACH ROW
	WHEN (OLD.state = NEW.state AND (OLD.progress IS DISTINCT FROM NEW.progress
	    OR OLD.step IS DISTINCT FROM NEW.step))
	EXECUTE FUNCTION notify_column('qvd_image_progress', 'image_id');

-- Who takes back an image's offer ends its transfers.
GRANT DELETE ON image_nodes TO qvd_api;
