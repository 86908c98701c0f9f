# SPDX-License-Identifier: 0BSD
"""The service in Python: asyncio, with an incremental decoder.

    python3 tests/peers/asyncio.py [PORT]
"""

import sys

# This file is called asyncio too, and its folder comes first on the path.
sys.path.pop(0)

import asyncio
import codecs


async def serve(reader, writer):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    try:
        while data := await reader.read(65536):
            writer.write(decoder.decode(data).upper().encode())
            await writer.drain()  # backpressure: wait for a client that reads slowly
        writer.write(decoder.decode(b"", final=True).upper().encode())
        await writer.drain()
    except ConnectionError:
        pass  # this client's failure is no other's
    finally:
        writer.close()  # sends what is left, then closes


if sys.platform == "win32":
    # Its usual loop accepts nobody after an early reset:
    # https://github.com/python/cpython/issues/93821
    asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main())
