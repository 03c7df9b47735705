"""One end of a line on which every frame is under way for a while: ``python delayed_line.py DEVICE MILLISECONDS``.

Started in the network namespace that has the tap device; standard input is a socket to the other end. For kernels
without netem.
"""

import fcntl
import os
import queue
import socket
import struct
import sys
import threading
import time

TUNSETIFF, TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
MOST_BYTES = 1 << 16


def main() -> None:
    """Carry frames until the other end is gone."""
    device, delay_s = sys.argv[1], float(sys.argv[2]) / 1000
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", device.encode(), TAP_WITHOUT_HEADER))
    other = socket.socket(fileno=0)
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def depart() -> None:
        while True:
            frame = os.read(tap, MOST_BYTES)
            under_way.put((time.monotonic() + delay_s, frame))

    def arrive() -> None:
        while frame := other.recv(MOST_BYTES):
            os.write(tap, frame)
        os._exit(0)

    for thread in (depart, arrive):
        threading.Thread(target=thread, daemon=True).start()
    os.write(1, b"ready\n")
    while True:
        due, frame = under_way.get()
        time.sleep(max(0.0, due - time.monotonic()))
        other.send(frame)


if __name__ == "__main__":
    main()
