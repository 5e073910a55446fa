-- SPDX-License-Identifier: GPL-3.0-or-later
-- Devices of the node that an OSF's desktops get, by the words of
-- model/device.h; null: none.

ALTER TABLE osfs ADD COLUMN devices text
	CHECK (devices <> '' AND length(devices) <= 200);
