// SPDX-License-Identifier: 0BSD

/** Our scripts with other people's programs, where they are installed. */

import { join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { expectUppercase, startClient, startServer } from "./pair.ts";

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
      const client = Script.command(command(`${server.address.port}`));
      await expectUppercase(client, TEXT);
    },
  });
}

Deno.test({
  name: "client - a line to a java server and back",
  ignore: !has("java"),
  async fn() {
    const path = join(import.meta.dirname!, "peers", "Textbook.java");
    await using server = await listening(Script.command(["java", path]));
    await expectUppercase(startClient(server.address), "perche no?\n");
  },
});
