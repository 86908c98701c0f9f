// SPDX-License-Identifier: 0BSD

/** Programs as child processes: started, waited for, talked to, and stopped. */

import { Buffer } from "node:buffer";
import type { Address } from "./tcp.ts";
import { within } from "./waits.ts";

/** How a {@linkcode Script} is started. */
export interface StartOptions {
  /** Arguments of the script itself. @default [] */
  args?: string[];
  /** Options of `deno run`. @default ["--allow-net"] */
  permissions?: string[];
  /** Folder to start it in. @default the current folder */
  cwd?: string;
  /** A command that starts the command, such as `["prlimit", "--nofile=64"]`. @default [] */
  wrapper?: string[];
  /** Environment variables added to this process's own. @default {} */
  env?: Record<string, string>;
  /** A kill ends all that it has started, too; not on Windows. @default false */
  group?: boolean;
}

/** How a {@linkcode Script} has ended, and all that it wrote. */
export interface Exit {
  /** Its exit code; 128 and more for a signal, as a shell says it. */
  code: number;
  /** Its standard output. */
  stdout: string;
  /** The same as bytes. */
  bytes: Uint8Array;
  /** Its standard error. */
  stderr: string;
}

/** What is kept of each output of a program; the rest is counted: bytes. */
const MOST_KEPT = 16_000_000;

/** What a stream has given so far. */
class Collected {
  /** Settles at the end of the stream. */
  readonly ended: Promise<void>;
  /** Bytes so far. */
  count = 0;
  readonly #chunks: Uint8Array[] = [];
  /** Resolves to true when a chunk comes, and to false at the end. */
  #more = Promise.withResolvers<boolean>();

  constructor(stream: ReadableStream<Uint8Array>) {
    this.ended = this.#collect(stream);
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of stream) {
      // A copy: a few bytes may be a view of 64 KB. A program may write without end.
      if (this.count < MOST_KEPT) this.#chunks.push(chunk.slice());
      this.count += chunk.length;
      this.#more.resolve(true);
      this.#more = Promise.withResolvers();
    }
    this.#more.resolve(false);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Waits until a condition holds, or the stream ends. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && await this.#more.promise);
  }
}

/**
 * A script that runs as a process of its own, or any other program.
 *
 * Killed when it goes out of scope, so that nothing is left running.
 */
export class Script implements AsyncDisposable {
  /** The process's number. */
  readonly pid: number;
  /** Settles when it has ended, and its output, too. */
  readonly ended: Promise<Exit>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stdout: Collected;
  readonly #stderr: Collected;

  private constructor(
    private readonly name: string,
    private readonly child: Deno.ChildProcess,
    private readonly group: boolean,
  ) {
    this.pid = child.pid;
    this.#input = child.stdin.getWriter();
    this.#stdout = new Collected(child.stdout);
    this.#stderr = new Collected(child.stderr);
    this.ended = this.#end();
  }

  /** Starts the script in the file at `path` with `deno run`. */
  static start(path: string, options: StartOptions = {}): Script {
    const { args = [], permissions = ["--allow-net"] } = options;
    const deno = [Deno.execPath(), "run", "--no-prompt", ...permissions];
    return Script.command([...deno, path, ...args], options);
  }

  /** Starts any other program, such as a server in another language. */
  static command(
    command: string[],
    { wrapper = [], cwd, env, group = false }: StartOptions = {},
  ): Script {
    const [program, ...args] = [...wrapper, ...command];
    const detached = group && Deno.build.os !== "windows";
    const child = new Deno.Command(program, {
      args,
      cwd,
      env: { NO_COLOR: "1", ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached, // it leads a group of processes of its own
    }).spawn();
    return new Script(command.join(" "), child, detached);
  }

  /** Its standard output so far. */
  get stdout(): string {
    return this.#stdout.bytes.toString();
  }

  /** Bytes of its standard output so far. */
  get count(): number {
    return this.#stdout.count;
  }

  /** Its standard error so far. */
  get stderr(): string {
    return this.#stderr.bytes.toString();
  }

  /** Waits until a condition holds, or standard output ends. */
  until(condition: () => boolean): Promise<void> {
    return this.#stdout.until(condition);
  }

  /** Waits for standard output to match; throws if it ends without, or after half a minute. */
  stdoutMatch(pattern: RegExp): Promise<RegExpMatchArray> {
    return this.#match(this.#stdout, pattern);
  }

  /** Waits for standard error to match; throws as `stdoutMatch` does. */
  stderrMatch(pattern: RegExp): Promise<RegExpMatchArray> {
    return this.#match(this.#stderr, pattern);
  }

  async #match(stream: Collected, pattern: RegExp): Promise<RegExpMatchArray> {
    const match = () => stream.bytes.toString().match(pattern);
    const ended = stream.until(() => match() !== null).then(() => "ended");
    const why = await within(30, ended) ?? "waited half a minute";
    const found = match();
    if (found) return found;
    throw this.#error(`${why} without ${pattern}`);
  }

  #error(what: string): Error {
    return new Error(`${this.name} ${what}:\n${this.stdout}${this.stderr}`);
  }

  /** Writes to its standard input. */
  async write(data: string | Uint8Array): Promise<void> {
    await this.#input.write(Buffer.from(data));
  }

  /** Ends its standard input. */
  async closeInput(): Promise<void> {
    await this.#input.close();
  }

  /** Sends it a signal. @default "SIGTERM" */
  kill(signal: Deno.Signal = "SIGTERM"): void {
    if (this.group) Deno.kill(-this.pid, signal);
    else this.child.kill(signal);
  }

  async #end(): Promise<Exit> {
    const { code } = await this.child.status;
    await Promise.all([this.#stdout.ended, this.#stderr.ended]);
    const { stdout, stderr } = this;
    return { code, stdout, bytes: this.#stdout.bytes, stderr };
  }

  /** Waits until it has ended; throws if it still runs after a minute. */
  async exit(): Promise<Exit> {
    const exit = await within(60, this.ended);
    if (!exit) throw this.#error("still runs after a minute");
    return exit;
  }

  /** Kills it if it still runs, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.group) await killSession(this.pid);
    try {
      this.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#input.abort().catch(() => {});
    await this.exit();
  }
}

/**
 * Kills all processes of a session. One may have left its group, as what is started
 * by `timeout` does.
 */
async function killSession(pid: number): Promise<void> {
  const { state } = await Deno.permissions.query({
    name: "run",
    command: "pkill",
  });
  if (state !== "granted") return;
  const args = ["-KILL", "-s", `${pid}`];
  await new Deno.Command("pkill", { args }).output()
    .catch(() => {}); // it is not installed
}

/**
 * Gives a program its input, and the end of input unless `open` is true, and
 * waits until it has ended.
 */
export async function run(
  script: Script,
  input: string | Uint8Array = "",
  { open = false }: { open?: boolean } = {},
): Promise<Exit> {
  await using running = script;
  running.write(input).then(() => open ? undefined : running.closeInput())
    .catch(() => {}); // it has ended before it has read all of its input
  return await running.exit();
}

/** A server that listens. */
export interface Server extends AsyncDisposable {
  /** Its process. */
  readonly script: Script;
  /** Where it listens. */
  readonly address: Address;
}

/**
 * Waits until a server says `listening on HOST:PORT`; socat has a word more
 * in this line. A server that says nothing is killed.
 */
export async function listening(script: Script): Promise<Server> {
  try {
    const [, hostname, port] = await script.stdoutMatch(
      /listening on (?:AF=2 )?\[?(\S*?)\]?:([0-9]+)$/m,
    );
    return {
      script,
      address: { hostname: hostname!, port: Number(port) },
      [Symbol.asyncDispose]: () => script[Symbol.asyncDispose](),
    };
  } catch (error) {
    await script[Symbol.asyncDispose]();
    throw error;
  }
}
