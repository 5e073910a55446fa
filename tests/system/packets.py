# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames made by hand, sent from one network namespace and looked for in
another. Run as a program inside a namespace:

    packets.py send IFACE HEX...      sends each frame
    packets.py sniff IFACE SECONDS    prints each frame that comes in, in hex
"""

import socket
import struct
import sys
import time

BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text):
    return bytes(int(x, 16) for x in text.split(":"))


def eth(dst, src, kind, payload):
    return mac(dst) + mac(src) + struct.pack("!H", kind) + payload


def arp(src_mac, src_ip, dst_ip, op=1, eth_src=None, dst=BROADCAST):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac(src_mac) \
        + socket.inet_aton(src_ip) + bytes(6) + socket.inet_aton(dst_ip)
    return eth(dst, eth_src or src_mac, 0x0806, body)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip(src, dst, proto, payload):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64,
                       proto, 0) + socket.inet_aton(src) \
        + socket.inet_aton(dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(sport, dport, data):
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def main():
    verb, iface = sys.argv[1:3]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind((iface, 0))
    if verb == "send":
        for frame in sys.argv[3:]:
            s.send(bytes.fromhex(frame))
        return
    print("ready", flush=True)
    end = time.monotonic() + float(sys.argv[3])
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            data, source = s.recvfrom(2048)
        except TimeoutError:
            break
        if source[2] != socket.PACKET_OUTGOING:
            print(data.hex(), flush=True)


if __name__ == "__main__":
    main()
