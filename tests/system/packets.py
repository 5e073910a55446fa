# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames made by hand, sent from one network namespace and looked for in
another. Run as a program inside a namespace:

    packets.py send IFACE             sends the frames that come as lines of
                                      hex on standard input
    packets.py sniff IFACE MARKER     prints each frame that comes in, in hex,
                                      up to the marker
    packets.py tap NAME               makes a tap of that name, and sends what
                                      comes on standard input into it
"""

import fcntl
import os
import socket
import struct
import sys

BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac(text):
    return bytes(int(x, 16) for x in text.split(":"))


def eth(dst, src, kind, payload):
    return mac(dst) + mac(src) + struct.pack("!H", kind) + payload


def tagged(dst, src, kind, payload, vlan=5, tag=0x8100):
    return eth(dst, src, tag, struct.pack("!HH", vlan, kind) + payload)


def arp(src_mac, src_ip, dst_ip, op=1, eth_src=None, dst=BROADCAST,
        head=(1, 0x0800, 6, 4)):
    body = struct.pack("!HHBBH", *head, op) + mac(src_mac) \
        + socket.inet_aton(src_ip) + bytes(6) + socket.inet_aton(dst_ip)
    return eth(dst, eth_src or src_mac, 0x0806, body)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip(src, dst, proto, payload, ident=1, part=0, options=b""):
    """part: the field of fragments; options: a multiple of four bytes."""
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload),
                       ident, part, 64, proto, 0) + socket.inet_aton(src) \
        + socket.inet_aton(dst) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def udp(sport, dport, data):
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def ip_fragment(src, dst, proto, payload, offset=0, more=True, ident=7):
    """offset in units of eight bytes."""
    return ip(src, dst, proto, payload, ident,
              offset | (0x2000 if more else 0))


def tcp(dport, sport=40000):
    """The beginning of a connection."""
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 0x50, 2, 1000, 0, 0)


def icmp(kind, body=bytes(4)):
    data = struct.pack("!BBH", kind, 0, 0) + body
    return data[:2] + struct.pack("!H", checksum(data)) + data[4:]


def dhcp(client_mac, kind, client_ip="0.0.0.0"):
    """A client's message: 1 discover, 4 decline, 7 release."""
    return udp(68, 67, struct.pack("!BBBBIHH", 1, 1, 6, 0, 7, 0, 0)
               + socket.inet_aton(client_ip) + bytes(12) + mac(client_mac)
               + bytes(202) + bytes.fromhex("63825363")
               + bytes([53, 1, kind, 255]))


# IPv6

def in6(text):
    return socket.inet_pton(socket.AF_INET6, text)


def ip6(src, dst, proto, payload, hops=255, label=0):
    return struct.pack("!IHBB", 6 << 28 | label, len(payload), proto, hops) \
        + in6(src) + in6(dst) + payload


def ip6_fragment(src, dst, proto, payload, offset=0, more=True, ident=7,
                 label=0):
    """offset in units of eight bytes."""
    return ip6(src, dst, 44, struct.pack(
        "!BBHI", proto, 0, offset << 3 | more, ident) + payload, label=label)


def pseudo(src, dst, proto, payload):
    return checksum(in6(src) + in6(dst) + struct.pack(
        "!II", len(payload), proto) + payload)


def icmp6(src, dst, kind, body):
    data = struct.pack("!BBH", kind, 0, 0) + body
    return data[:2] + struct.pack("!H", pseudo(src, dst, 58, data)) + data[4:]


def summed(src, dst, proto, payload):
    """TCP and UDP with their checksum, without which the node's connection
    tracking takes a packet for broken."""
    at = {6: 16, 17: 6}.get(proto)
    if at is None:
        return payload
    if ":" in src:
        found = pseudo(src, dst, proto, payload)
    else:
        found = checksum(socket.inet_aton(src) + socket.inet_aton(dst)
                         + struct.pack("!HH", proto, len(payload)) + payload)
    return payload[:at] + struct.pack("!H", found) + payload[at + 2:]


def udp6(src, dst, sport, dport, data):
    return summed(src, dst, 17, udp(sport, dport, data))


def lladdr(kind, address):
    """Option 1: of the source, 2: of the target."""
    return bytes([kind, 1]) + mac(address)


def discovery(src_mac, src, dst, kind, target, option=b"", flags=0,
              dst_mac="33:33:00:00:00:01"):
    """Neighbour solicitation (135), advertisement (136)."""
    return eth(dst_mac, src_mac, 0x86dd, ip6(src, dst, 58, icmp6(
        src, dst, kind, struct.pack("!I", flags) + in6(target) + option)))


def router(src, dst="ff02::1"):
    """A router's advertisement of itself and of a network."""
    prefix = bytes([3, 4, 64, 0xc0]) + struct.pack("!III", 3600, 3600, 0) \
        + in6("2001:db8:bad::")
    return icmp6(src, dst, 134, struct.pack("!BBHII", 64, 0, 1800, 0, 0)
                 + prefix)


def lines():
    return (bytes.fromhex(line) for line in sys.stdin)


def send(iface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.bind((iface, 0))
    for frame in lines():
        s.send(frame)


SOL_PACKET, PACKET_AUXDATA = 263, 8


def receive(s):
    """A frame as it was sent: the kernel takes the outer tag out of it."""
    data, aux, _, source = s.recvmsg(9000, socket.CMSG_SPACE(20))
    for level, kind, content in aux:
        if (level, kind) != (SOL_PACKET, PACKET_AUXDATA):
            continue
        status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", content)
        if status & 0x10:  # TP_STATUS_VLAN_VALID
            data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
    return data, source


def sniff(iface, marker):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    s.bind((iface, 0))
    s.settimeout(30)
    print("ready", flush=True)
    while True:
        data, source = receive(s)
        if source[2] == socket.PACKET_OUTGOING:
            continue
        print(data.hex(), flush=True)
        if data.hex() == marker:
            break


def tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF, IFF_TAP | IFF_NO_PI
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1002))
    print("ready", flush=True)
    for frame in lines():
        os.write(fd, frame)
        print("sent", flush=True)


if __name__ == "__main__":
    {"send": send, "sniff": sniff, "tap": tap}[sys.argv[1]](*sys.argv[2:])
