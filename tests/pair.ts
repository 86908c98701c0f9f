// SPDX-License-Identifier: 0BSD

/** The two scripts, and what several tests ask of them. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Exit,
  listening,
  run,
  Script,
  type Server,
  type StartOptions,
} from "../lib/parts/process.ts";
import type { Address } from "../lib/parts/tcp.ts";
import { within } from "../lib/parts/waits.ts";
import { temporaryFolder } from "./machine.ts";

/** The project's top folder. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Path of `server.ts`, or of the copy that take_away_test.ts has tests run with. */
export const SERVER = Deno.env.get("SERVER_COPY") ?? join(ROOT, "server.ts");
/** Path of `client.ts`, or of such a copy. */
export const CLIENT = Deno.env.get("CLIENT_COPY") ?? join(ROOT, "client.ts");

/** 6 MB of text, and the reply to it. */
export const TEXT = new TextEncoder().encode("perché no?\n".repeat(500_000));
/** The reply to {@linkcode TEXT}. */
export const UPPER = new TextEncoder().encode("PERCHÉ NO?\n".repeat(500_000));

/** Copies a script into a new folder, and replaces a text that is there once. */
export async function changed(
  script: string,
  before: string,
  after: string,
): Promise<AsyncDisposable & { readonly path: string }> {
  const text = await Deno.readTextFile(script);
  assert.equal(text.split(before).length, 2, `just once: ${before}`);
  const folder = await temporaryFolder();
  const path = join(folder.path, basename(script));
  await Deno.writeTextFile(path, text.replace(before, () => after));
  return { ...folder, path };
}

/** Starts `server.ts`, on a free port unless told otherwise, and waits until it listens. */
export function startServer(
  args: string[] = [],
  options: StartOptions = {},
  path = SERVER,
): Promise<Server> {
  const all = ["--port=0", ...args];
  return listening(Script.start(path, { ...options, args: all }));
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
 * Expects of a program that has ended this exit code, and these words: nothing on
 * standard error, unless told otherwise.
 */
export function expectExit(
  exit: Exit,
  expected: { code?: number; stdout?: string; stderr?: RegExp } = {},
): void {
  const { code = 0, stdout = exit.stdout, stderr = /^$/ } = expected;
  assert.match(exit.stderr, stderr);
  assert.equal(exit.stdout, stdout);
  assert.equal(exit.code, code);
}

/**
 * Gives a client its whole input, and expects the whole reply on its standard
 * output, exit code 0, and no other word.
 */
export async function expectUppercase(
  client: Script,
  input: string,
): Promise<void> {
  await using started = client;
  const exit = await within(10, run(started, input));
  assert.ok(exit, "its input has ended, and it has not");
  expectExit(exit);
  // Not equal(), whose message would show megabytes.
  const isWhole = exit.stdout === input.toUpperCase();
  assert.ok(isWhole, "the reply is not the whole one");
}

/**
 * Has Python flood a server from so many clients that send and read at the same time,
 * as fast as the server both ways: it seldom has to wait for them.
 */
export async function startFlood(
  { port }: Address,
  clients: number,
): Promise<Script> {
  const program = `
import selectors, socket, sys, threading
text = memoryview("ΐ".encode() * 500_000)
buffer = bytearray(1_000_000)
selector = selectors.DefaultSelector()
for _ in range(int(sys.argv[2])):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    client.setblocking(False)
    selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
def flood():
    while True:
        for key, events in selector.select():
            if events & selectors.EVENT_READ: key.fileobj.recv_into(buffer)
            if events & selectors.EVENT_WRITE: key.fileobj.send(text)
threading.Thread(target=flood, daemon=True).start()
print("flooding", flush=True)
sys.stdin.read()
`;
  const args = [`${port}`, `${clients}`];
  const script = Script.command(["python3", "-c", program, ...args]);
  await script.stdoutMatch(/flooding/);
  return script;
}

/** Expects just these bytes. (The message of deepEqual() would show megabytes.) */
export function expectSame(came: Uint8Array, wanted: Uint8Array): void {
  const isSame = Buffer.compare(came, wanted) === 0;
  assert.ok(isSame, "bytes of the reply are lost, or others");
}
