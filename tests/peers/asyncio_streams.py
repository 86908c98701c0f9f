# SPDX-License-Identifier: 0BSD

# asyncio streams; an incremental decoder keeps a character that TCP has cut.

import asyncio
import codecs
import sys


async def serve(reader, writer):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while chunk := await reader.read(65536):
            writer.write(decoder.decode(chunk).upper().encode())
            await writer.drain()
        writer.write(decoder.decode(b"", final=True).upper().encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


asyncio.run(main())
