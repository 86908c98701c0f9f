// SPDX-License-Identifier: 0BSD

/** Our scripts with other people's programs, where they are installed. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { startClient, startServer } from "./pair.ts";

const TEXT = "perché no? ß 😀\n".repeat(1000);

/** Apple's nc ends its sending side by itself. */
const HALF_CLOSE = Deno.build.os === "darwin" ? [] : ["-N"];

const PYTHON = `
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    while data := s.recv(4096):
        sys.stdout.buffer.write(data)
`;

const BASH = "exec 3<>/dev/tcp/127.0.0.1/$0; cat >&3; head -1000 <&3";

/** Clients that send standard input, and print replies to the end. */
const CLIENTS: ((port: string) => [program: string, ...args: string[]])[] = [
  (port) => ["nc", ...HALF_CLOSE, "127.0.0.1", port],
  (port) => ["ncat", "127.0.0.1", port],
  (port) => ["socat", "-t", "10", "-", `TCP:127.0.0.1:${port}`],
  (port) => ["python3", "-c", PYTHON, port],
  (port) => ["bash", "-c", BASH, port],
];

for (const command of CLIENTS) {
  const [program] = command("0");
  Deno.test({
    name: `server - every byte to ${program}`,
    ignore: !has(program),
    async fn() {
      await using server = await startServer();
      await using client = Script.command(command(`${server.address.port}`));
      await client.write(TEXT);
      await client.closeInput();
      const { stdout, stderr, code } = await client.ending();
      assert.deepEqual({ stderr, code }, { stderr: "", code: 0 });
      assert.equal(stdout, TEXT.toUpperCase());
    },
  });
}

const PEERS = join(import.meta.dirname!, "peers");
const SERVERS: [program: string, ...args: string[]][] = [
  ["java", `${PEERS}/Textbook.java`],
  ["python3", `${PEERS}/asyncio.py`],
];

for (const command of SERVERS) {
  const [program] = command;
  Deno.test({
    name: `client - a line to a ${program} server and back`,
    ignore: !has(program),
    async fn() {
      await using server = Script.command(command);
      await using client = startClient(await listening(server));
      await client.write("perche no?\n");
      await client.closeInput();
      const { code, stdout, stderr } = await client.ending();
      assert.equal(stdout, "PERCHE NO?\n");
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    },
  });
}
