"""tap.py - shows what the actors of a process say: python3 tap.py [ENDPOINT [TOPIC]]"""
import os
import sys

import msgpack
import zmq

tap = zmq.Context().socket(zmq.SUB)
tap.connect(sys.argv[1] if len(sys.argv) > 1 else "ipc://" + os.path.expanduser("~/.local/state/guerdon/tap.sock"))
tap.subscribe(sys.argv[2] if len(sys.argv) > 2 else "")  # a beginning, such as "decision give alice"
while True:
    topic, body = tap.recv_multipart()
    version, time_us, process, direction, source, target, sequence, lost, message, *_ = msgpack.unpackb(
        body, unicode_errors="surrogateescape", strict_map_key=False)
    print(time_us, process, source, direction, target, topic.decode(errors="replace"), message[3:], flush=True)
