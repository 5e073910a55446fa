-- SPDX-License-Identifier: GPL-3.0-or-later
-- A desktop's share of a disk that is short; 100 is normal.

ALTER TABLE osfs ADD COLUMN io_weight integer NOT NULL DEFAULT 100
	CHECK (io_weight BETWEEN 1 AND 10000);
