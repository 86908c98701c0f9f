// SPDX-License-Identifier: 0BSD

/** What tests ask of the machine that they run on. */

import { delimiter, join } from "node:path";

/** The folder of ordinary servers and clients, in several languages. */
export const PEERS: string = join(import.meta.dirname!, "peers");

/** A wrapper that gives a command a terminal; it is written in Python. */
export const TERMINAL = [
  "python3",
  "-c",
  "import os, pty, sys; " +
  "sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
];

/**
 * A port on which nothing listens, and which no outgoing connection gets (Linux
 * takes those from 32768 on): whoever starts a server on it finds it free.
 */
export function freePort(): number {
  while (true) {
    const port = 10_000 + Math.floor(20_000 * Math.random());
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch {
      // Taken: another one.
    }
  }
}

/** Whether this machine has a program, to skip a test that needs it. */
export function has(program: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(delimiter);
  // Java runs a source file only if it has its compiler.
  const needed = program === "java" ? "javac" : program;
  const name = Deno.build.os === "windows" ? `${needed}.exe` : needed;
  return folders.some((folder) => {
    try {
      // Where there is no Node, Deno puts itself on the PATH as "node".
      const path = Deno.realPathSync(join(folder, name));
      return path !== Deno.realPathSync(Deno.execPath());
    } catch {
      return false;
    }
  });
}

/** A test of many steps. Several run at a time: most of what they take is waiting. */
export function testSteps(
  name: string,
  atOnce: number,
  steps: Deno.TestStepDefinition[],
): void {
  const sanitizeExit = false; // which would have one step at a time
  const fn = async (t: Deno.TestContext) => {
    const next = steps.values();
    await Promise.all(Array.from({ length: atOnce }, async () => {
      for (const step of next) await t.step({ ...step, sanitizeExit });
    }));
  };
  Deno.test({ name, sanitizeExit, fn });
}

/** The bytes of memory that a process holds now, or the most it ever held. */
export function memory(pid: number, field: "VmRSS" | "VmHWM"): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  const match = status.match(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m"));
  return Number(match![1]) * 1024;
}

/** The seconds of processor time that a process has taken. */
export function cpuSeconds(pid: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")")).split(" ");
  return (Number(fields[12]) + Number(fields[13])) / 100; // clock ticks
}

/** A new folder, which goes with all that is in it when it goes out of scope. */
export async function temporaryFolder(): Promise<
  AsyncDisposable & { readonly path: string }
> {
  const path = await Deno.makeTempDir();
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}
