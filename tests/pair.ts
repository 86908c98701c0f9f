// SPDX-License-Identifier: 0BSD

/** The two scripts, and what several tests ask of them. */

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Address,
  listening,
  Script,
  type StartOptions,
} from "../lib/process.ts";

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

/** Starts `server.ts` on a free port and waits until it listens. */
export async function startServer(
  args: string[] = [],
  options: StartOptions = {},
): Promise<Server> {
  const script = Script.start(SERVER, {
    ...options,
    args: ["--port", "0", ...args],
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
 * Has Python reset connections: at once, most often before the server accepts,
 * or in the middle of a transfer. (`close()` in Deno sends a FIN first.)
 */
export async function resets(
  { port }: Address,
  times: number,
  when: "at once" | "in a transfer",
): Promise<void> {
  const program = `
import socket, struct, sys
for _ in range(int(sys.argv[2])):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if sys.argv[3] == "in a transfer":
                s.sendall(b"hello " * 10000)
                s.recv(1)
    except ConnectionResetError:
        pass
`;
  await using python = Script.command(
    ["python3", "-c", program, `${port}`, `${times}`, when],
  );
  const { code, stderr } = await python.ending();
  if (code !== 0) throw new Error(stderr);
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

/** Whether this machine has a program, to skip a test that needs it. */
export function has(program: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(delimiter);
  const name = Deno.build.os === "windows" ? `${program}.exe` : program;
  return folders.some((folder) => existsSync(join(folder, name)));
}

/** The bytes of memory that a process holds now, or the most it ever held. */
export function memory(pid: number, field: "VmRSS" | "VmHWM"): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const match = status.match(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m"));
  return Number(match![1]) * 1024;
}

/** Whether this Deno is of the release `version` or a later one. */
export function denoSince(version: string): boolean {
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  return compare(Deno.version.deno, version) >= 0;
}
