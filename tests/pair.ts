// SPDX-License-Identifier: 0BSD

/** The two scripts, and what several tests ask of them. */

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script, type StartOptions } from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";

/** Path of `server.ts`. */
export const SERVER = path("../server.ts");
/** Path of `client.ts`. */
export const CLIENT = path("../client.ts");

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/** 6 MB of text, and the reply to it. */
export const TEXT = new TextEncoder().encode("perché no? ".repeat(500_000));
/** The reply to {@linkcode TEXT}. */
export const UPPER = new TextEncoder().encode("PERCHÉ NO? ".repeat(500_000));

/** A copy of a script in a folder of its own, which goes with it. */
export interface Copy extends AsyncDisposable {
  /** Path of the copy. */
  readonly path: string;
}

/** Copies a script and replaces texts in it; each is there just once. */
export async function changed(
  script: string,
  edits: [before: string, after: string][],
): Promise<Copy> {
  let text = await Deno.readTextFile(script);
  for (const [before, after] of edits) {
    assert.equal(text.split(before).length, 2, `just once: ${before}`);
    text = text.replace(before, () => after);
  }
  const folder = await Deno.makeTempDir();
  const path = join(folder, basename(script));
  await Deno.writeTextFile(path, text);
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
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
    await pause(0);
  }
}

/** A server whose log is a pipe that has been read up to its first line. */
export interface LoggedServer extends Server {
  /** The rest of the log; closing it is the reader's death. */
  readonly log: Deno.FsFile;
}

/** Starts a server with a named pipe for its log. */
export async function startLoggedServer(path: string): Promise<LoggedServer> {
  const folder = await Deno.makeTempDir();
  const pipe = join(folder, "log");
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  const script = Script.start(path, {
    wrapper: ["bash", "-c", 'exec "$@" >"$0"', pipe],
    args: ["--port", "0"],
  });
  const log = await Deno.open(pipe);
  const buffer = new Uint8Array(4096);
  const count = await log.read(buffer);
  const line = new TextDecoder().decode(buffer.subarray(0, count!));
  const port = Number(line.match(/:(\d+)\n/)![1]);
  return {
    script,
    log,
    address: { hostname: "127.0.0.1", port },
    async [Symbol.asyncDispose]() {
      await script[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
    },
  };
}
