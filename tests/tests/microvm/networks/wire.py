"""One end of a container's wire.

`hear` prints each frame that passes eth0: `out` where a socket sent it, else `in`, and its bytes. `say` sends the frames in its
arguments.
"""

import socket
import sys

ALL_PROTOCOLS = 3

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
wire.bind(("eth0", 0))


def hear():
    print("hearing", flush=True)
    while True:
        frame, (_, _, kind, _, _) = wire.recvfrom(1 << 16)
        way = "out" if kind == socket.PACKET_OUTGOING else "in"
        print(way, frame.hex(), flush=True)


def say(frames):
    for frame in frames:
        wire.send(bytes.fromhex(frame))


if sys.argv[1] == "hear":
    hear()
else:
    say(sys.argv[2:])
