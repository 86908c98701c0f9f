// SPDX-License-Identifier: 0BSD

/** The two scripts, and what several tests ask of them. */

import { fileURLToPath } from "node:url";
import { listening, Script, type StartOptions } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";

/** Path of `server.ts`. */
export const SERVER = path("../server.ts");
/** Path of `client.ts`. */
export const CLIENT = path("../client.ts");

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** Its process. */
  readonly script: Script;
  /** Where it listens. */
  readonly address: Address;
}

/** Starts `server.ts`, on a free port unless told otherwise, and waits until it listens. */
export async function startServer(
  args: string[] = [],
  options: StartOptions & { port?: number } = {},
): Promise<Server> {
  const { port = 0, ...startOptions } = options;
  const script = Script.start(SERVER, {
    ...startOptions,
    args: ["--port", `${port}`, ...args],
  });
  const address = await listening(script);
  return {
    script,
    address,
    [Symbol.asyncDispose]: () => script[Symbol.asyncDispose](),
  };
}

/** Starts `client.ts` towards an address. */
export function startClient(
  { hostname, port }: Address,
  options: StartOptions = {},
): Script {
  const args = ["--hostname", hostname, "--port", `${port}`];
  return Script.start(CLIENT, { ...options, args });
}

/**
 * Has Python flood a server from four clients that send and read at the same
 * time, quicker than the server both ways: it never has to wait for them.
 */
export async function startFlood({ port }: Address): Promise<Script> {
  const program = `
import socket, sys, threading
text = "ΐ".encode() * 500_000
def send(client):
    while True: client.sendall(text)
def receive(client):
    buffer = bytearray(1_000_000)
    while client.recv_into(buffer): pass
for _ in range(4):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for work in send, receive:
        threading.Thread(target=work, args=[client], daemon=True).start()
print("flooding", flush=True)
sys.stdin.read()
`;
  const script = Script.command(["python3", "-c", program, `${port}`]);
  await script.stdoutMatch(/flooding/);
  return script;
}

/** Sends a line and waits for the reply to it, as a person would. */
export async function ask(
  connection: Deno.Conn,
  line: string,
): Promise<string> {
  await connection.write(new TextEncoder().encode(line));
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(4096);
  let reply = "";
  while (!reply.endsWith("\n")) {
    const count = await connection.read(buffer);
    if (count === null) break;
    reply += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
  return reply;
}

/** Reads to the end in small pieces, each a turn later; compares every byte. */
export async function readSlowly(
  connection: Deno.Conn,
  reply: Uint8Array,
): Promise<number> {
  const buffer = new Uint8Array(8192);
  let total = 0;
  while (true) {
    const count = await connection.read(buffer);
    if (count === null) return total;
    for (let at = 0; at < count; at++) {
      if (buffer[at] !== reply[total + at]) throw new Error("a wrong byte");
    }
    total += count;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}
