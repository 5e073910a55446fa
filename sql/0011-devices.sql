-- SPDX-License-Identifier: GPL-3.0-or-later
-- Of an OSF's desktops: their share of a disk that is short (100 is normal),
-- and the devices of the node that they get, by the words of model/device.h
-- (null: none).

ALTER TABLE osfs ADD COLUMN io_weight integer NOT NULL DEFAULT 100
	CHECK (io_weight BETWEEN 1 AND 10000),
	ADD COLUMN devices text
	CHECK (devices <> '' AND length(devices) <= 200);
