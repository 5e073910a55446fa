-- SPDX-License-Identifier: GPL-3.0-or-later
-- The router may not read roll-outs (0010), and what wakes them is asked at
-- each event that it writes: that is the owner's business, whoever writes.
ALTER FUNCTION notify_rollout_event() SECURITY DEFINER SET search_path = qvd;
