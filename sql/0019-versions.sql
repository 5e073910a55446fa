-- SPDX-License-Identifier: GPL-3.0-or-later
-- The names that versions get by themselves, YYYY-MM-DD-NNN, are given once: one
-- that is gone (removed, or its import failed) must not come again as another.

ALTER TABLE osfs
	ADD COLUMN version_day   text,                        -- of the last such name
	ADD COLUMN version_count integer NOT NULL DEFAULT 0;  -- how many were given on it
