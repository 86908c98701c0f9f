// SPDX-License-Identifier: 0BSD

/** Our scripts with other people's programs, where they are installed. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { listening, Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { startClient, startServer } from "./pair.ts";

const TEXT = "perché no? ß 😀\n".repeat(1000);

function peer(name: string): string {
  return fileURLToPath(new URL(`peers/${name}`, import.meta.url));
}

/** Apple's nc ends its sending side by itself. */
const HALF_CLOSE = Deno.build.os === "darwin" ? [] : ["-N"];

/** Clients that send standard input, and print replies to the end. */
const CLIENTS: [program: string, command: (port: number) => string[]][] = [
  ["nc", (port) => ["nc", ...HALF_CLOSE, "127.0.0.1", `${port}`]],
  ["ncat", (port) => ["ncat", "127.0.0.1", `${port}`]],
  ["socat", (port) => ["socat", "-t", "10", "-", `TCP:127.0.0.1:${port}`]],
  ["python3", (port) => ["python3", "-c", PYTHON_CLIENT, `${port}`]],
];

const PYTHON_CLIENT = `
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    while data := s.recv(4096):
        sys.stdout.buffer.write(data)
`;

for (const [program, command] of CLIENTS) {
  Deno.test({
    name: `server - every byte to ${program}`,
    ignore: !has(program),
    async fn() {
      await using server = await startServer();
      await using client = Script.command(command(server.address.port));
      await client.write(TEXT);
      await client.closeInput();
      const { stdout, stderr, code } = await client.ending();
      assert.deepEqual({ stderr, code }, { stderr: "", code: 0 });
      assert.equal(stdout, TEXT.toUpperCase());
    },
  });
}

Deno.test({
  name: "server - a line to bash and its /dev/tcp",
  ignore: !has("bash"),
  async fn() {
    await using server = await startServer();
    await using client = Script.command([
      "bash",
      "-c",
      'exec 3<>/dev/tcp/127.0.0.1/$0; echo "perché no?" >&3; head -1 <&3',
      `${server.address.port}`,
    ]);
    assert.equal((await client.ending()).stdout, "PERCHÉ NO?\n");
  },
});

Deno.test({
  name: "server - the textbook's client in Java",
  ignore: !has("java"),
  async fn() {
    await using server = await startServer();
    await using client = Script.command(
      ["java", peer("TextbookClient.java"), `${server.address.port}`],
    );
    await client.write("ciao\n");
    const { stdout, stderr } = await client.ending();
    assert.deepEqual({ stdout: stdout.replace("\r\n", "\n"), stderr }, {
      stdout: "FROM SERVER: CIAO\n",
      stderr: "",
    });
  },
});

/** Servers that uppercase ASCII, a line at a time. */
const SERVERS: [program: string, command: string[]][] = [
  ["java", ["java", peer("Textbook.java"), "0"]],
  ["python3", [
    "python3",
    "-u",
    "-c",
    `
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.decode().upper().encode())
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    print("listening on 127.0.0.1:%d" % server.server_address[1])
    server.serve_forever()
`,
  ]],
];

for (const [program, command] of SERVERS) {
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
