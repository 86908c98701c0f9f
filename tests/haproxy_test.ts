// SPDX-License-Identifier: 0BSD

/** Three servers behind HAProxy, with the configuration that the README shows. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { Script } from "../lib/parts/process.ts";
import { type Address, talk, writeAll } from "../lib/parts/tcp.ts";
import { has } from "./machine.ts";
import {
  ask,
  readSlowly,
  SERVER,
  type Server,
  startClient,
  startServer,
} from "./pair.ts";

const CONFIGURATION = join(import.meta.dirname!, "haproxy.cfg");
const CHECKS = join(import.meta.dirname!, "..", "lib", "conformance.ts");

const text = new TextEncoder().encode("perché no? ".repeat(500_000));
const upper = new TextEncoder().encode("PERCHÉ NO? ".repeat(500_000));

/** HAProxy's checks in a server's log: they say "check", and end. */
const TWO_CHECKS = /(closed, 6 bytes in, 6 bytes out, .*\n[^]*?){2}/;

interface Service extends AsyncDisposable {
  /** Where HAProxy listens. */
  readonly address: Address;
  readonly haproxy: Script;
  /** Those that the configuration calls one, two and three. */
  readonly servers: [Server, Server, Server];
}

/** Starts all four, HAProxy with a changed configuration if there is a change. */
async function startService(
  change?: (configuration: string) => string,
): Promise<Service> {
  const started: AsyncDisposable[] = [];
  const dispose = async () => {
    for (const process of started.reverse()) {
      await process[Symbol.asyncDispose]();
    }
  };
  const start = async () => {
    const server = await startOn(freePort());
    started.push(server);
    return server;
  };
  try {
    const servers: Service["servers"] = [
      await start(),
      await start(),
      await start(),
    ];
    const [one, two, three] = servers;
    let file = CONFIGURATION;
    if (change !== undefined) {
      const configuration = await Deno.readTextFile(CONFIGURATION);
      const changed = change(configuration);
      assert.notEqual(changed, configuration);
      file = await Deno.makeTempFile({ suffix: ".cfg" });
      started.push({ [Symbol.asyncDispose]: () => Deno.remove(file) });
      await Deno.writeTextFile(file, changed);
    }
    const port = freePort();
    const haproxy = Script.command(["haproxy", "-db", "-f", file], {
      env: {
        PORT: `${port}`,
        PORT1: `${one.address.port}`,
        PORT2: `${two.address.port}`,
        PORT3: `${three.address.port}`,
      },
    });
    started.push(haproxy);
    // It listens before it sends the first check. After two that passed, three
    // in a row must fail before it takes a server out: two seconds or more.
    for (const { script } of servers) {
      await script.stdoutMatch(TWO_CHECKS).catch((cause) => {
        throw new Error(`HAProxy sends no checks: ${haproxy.stderr}`, {
          cause,
        });
      });
    }
    const address = { hostname: "127.0.0.1", port };
    return { address, haproxy, servers, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Starts a server that gives up on a test that is stuck. */
function startOn(port: number): Promise<Server> {
  return startServer(["--idle-timeout", "60"], { port });
}

/** The last port taken: runs of this test at the same time have a hundred each. */
let port = 10_000 + 100 * (Deno.pid % 200);

/**
 * A free port that no outgoing connection gets (Linux takes those from 32768
 * on): a server that is started again must find its port free.
 */
function freePort(): number {
  while (true) {
    port += 1;
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch {
      // Taken: the next one.
    }
  }
}

/** Connections that stay open, each after a line and its reply. */
async function open(address: Address, count: number): Promise<Deno.TcpConn[]> {
  const connections = [];
  for (let number = 0; number < count; number++) {
    const connection = await Deno.connect(address);
    connections.push(connection);
    assert.equal(await ask(connection, "hello, you\n"), "HELLO, YOU\n");
  }
  return connections;
}

/** Ends a server; how many of the connections of open() it had. */
async function served({ script }: Server): Promise<number> {
  script.kill();
  const { stdout } = await script.ending();
  return stdout.match(/ closed, 11 bytes in/g)?.length ?? 0;
}

function close(connections: Deno.TcpConn[]): void {
  connections.forEach((connection) => connection.close());
}

Deno.test({
  name: "haproxy - every byte comes through, after a half-close too",
  ignore: !has("haproxy"),
  async fn(t) {
    await using service = await startService();
    const { address } = service;

    await t.step("to one that reads slowly", () => exchangeSlowly(address));

    await t.step("to six of them at once", async () => {
      await Promise.all([1, 2, 3, 4, 5, 6].map(() => exchangeSlowly(address)));
    });

    await t.step("to client.ts", async () => {
      await using client = startClient(address);
      await client.write(text);
      await client.closeInput();
      const { code, stderr } = await client.ending();
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      assert.ok(
        same(client.stdoutBytes, upper),
        "client.ts printed something else than the whole reply",
      );
    });

    await t.step("to the checks for any such service", async () => {
      await using checks = Script.start(CHECKS, {
        args: ["--port", `${address.port}`, "--strict"],
      });
      const { code, stdout } = await checks.ending();
      assert.equal(code, 0, `a promise was not kept:\n${stdout}`);
    });
  },
});

/** Sends all, ends its sending side, and takes the reply in small pieces. */
async function exchangeSlowly(address: Address): Promise<void> {
  using connection = await Deno.connect(address);
  const [length] = await Promise.all([
    readSlowly(connection, upper),
    // Within milliseconds: sockets and HAProxy hold what is not read yet.
    writeAll(connection, text).then(() => connection.closeWrite()),
  ]);
  assert.equal(length, upper.length, "bytes of the reply were lost");
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

Deno.test({
  name: "haproxy - connections are spread over all servers",
  ignore: !has("haproxy"),
  async fn() {
    await using service = await startService();
    close(await open(service.address, 30));
    assert.equal(service.haproxy.stderr, "", "HAProxy has nothing to say");
    assert.deepEqual(
      await Promise.all(service.servers.map(served)),
      [10, 10, 10],
      "each one goes to the server that has the fewest",
    );
    for (const { script } of service.servers) {
      assert.doesNotMatch(
        script.stdout,
        /reset by the client/,
        "a check ends without a reset, which is a line in a --quiet log too",
      );
    }
  },
});

Deno.test({
  name: "haproxy - a killed server costs its own connections and no others",
  ignore: !has("haproxy"),
  async fn() {
    await using service = await startService();
    const { address, haproxy, servers: [, two] } = service;
    const connections = await open(address, 9);
    two.script.kill("SIGKILL");
    await two.script.ending();

    const replies = await Promise.all(
      connections.map((connection) =>
        ask(connection, "still here\n").catch(() => "") // a reset
      ),
    );
    const lost = connections.filter((_, number) => replies[number] === "");
    assert.equal(lost.length, 3, "the killed server had a third of them");
    close(lost);
    const kept = connections.filter((connection) => !lost.includes(connection));
    for (const connection of kept) {
      const reply = await ask(connection, "and now\n");
      assert.equal(reply, "AND NOW\n", "those to the other two go on");
    }

    const early = await askAll(address);
    assert.doesNotMatch(
      haproxy.stderr,
      /DOWN/,
      "answered before the check has noticed",
    );
    assert.deepEqual(early, ANSWERED, "refused by one: tried at the next");
    await haproxy.stderrMatch(/uppercase\/two is DOWN/);
    assert.deepEqual(await askAll(address), ANSWERED, "one is known as down");

    await using again = await startOn(two.address.port);
    await haproxy.stderrMatch(/uppercase\/two is UP/);
    close(await open(address, 3)); // the others have three each
    close(kept);
    assert.equal(await served(again), 3, "started again, it is used again");
  },
});

Deno.test({
  name: "haproxy - a server that accepts and does not answer is left out",
  ignore: !has("haproxy"),
  async fn() {
    await using service = await startService();
    const { address, haproxy, servers: [, two] } = service;
    two.script.kill("SIGSTOP"); // the system accepts for it
    await haproxy.stderrMatch(/uppercase\/two is DOWN/);
    assert.deepEqual(await askAll(address), ANSWERED, "the others answer");
    two.script.kill("SIGCONT");
    await haproxy.stderrMatch(/uppercase\/two is UP/);
  },
});

Deno.test({
  name: "haproxy - when all servers are full, clients wait for a place",
  ignore: !has("haproxy"),
  async fn() {
    await using service = await startService((configuration) =>
      configuration.replace("maxconn 990", "maxconn 2")
    );
    const connections = await open(service.address, 6);
    let answered = 0;
    const waiting = Promise.all(
      [1, 2, 3, 4].map(async (number) => {
        const reply = await talk(service.address, `${number}\n`);
        answered += 1;
        return reply;
      }),
    );
    waiting.catch(() => {}); // told where it is awaited
    for (const connection of connections) {
      assert.equal(await ask(connection, "busy\n"), "BUSY\n");
    }
    assert.equal(answered, 0, "there was no place yet");
    close(connections.splice(0, 1));
    assert.deepEqual(await waiting, ["1\n", "2\n", "3\n", "4\n"]);
    close(connections);
  },
});

Deno.test({
  name: "haproxy - the README's limit for an address",
  ignore: !has("haproxy"),
  async fn() {
    const readme = await Deno.readTextFile(
      join(import.meta.dirname!, "..", "README.md"),
    );
    const [limit] = readme.match(/^stick-table .*\n(tcp-request .*\n)+/m)!;
    await using service = await startService((configuration) =>
      configuration.replace(/^ +bind .*\n/m, (bind) => bind + limit)
    );
    const connections = await open(service.address, 20);
    await assert.rejects(async () => {
      using refused = await Deno.connect(service.address);
      assert.equal(await ask(refused, "me too\n"), "ME TOO\n");
    }, "the 21st from one address is turned away");
    close(connections.splice(0, 1));
    let reply = "";
    while (reply !== "AGAIN\n") { // HAProxy counts it a moment longer
      reply = await talk(service.address, "again\n").catch(() => "");
    }
    close(connections);
  },
});

Deno.test({
  name: "haproxy - the PROXY header comes back as text",
  ignore: !has("haproxy"),
  async fn() {
    await using service = await startService((configuration) =>
      configuration.replace("default-server check", "$& send-proxy")
    );
    assert.match(
      await talk(service.address, "hello\n"),
      /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nHELLO\n$/,
    );
  },
});

const ANSWERED: string[] = Array(12).fill("NEW\n");

/** Twelve new clients, one after the other. */
async function askAll(address: Address): Promise<string[]> {
  const replies = [];
  for (const _ of ANSWERED) {
    replies.push(await talk(address, "new\n").catch(String));
  }
  return replies;
}

Deno.test("haproxy - the configuration fits the limits of server.ts", async () => {
  const configuration = await Deno.readTextFile(CONFIGURATION);
  await using script = Script.start(SERVER, { args: ["--help"] });
  const { stdout: help } = await script.ending();
  const standard = (option: string) =>
    Number(help.match(new RegExp(`${option} [^]*?default ([0-9]+)`))![1]);
  const idle = standard("--idle-timeout");
  const places = standard("--max-connections");

  for (const side of ["client", "server", "client-fin", "server-fin"]) {
    const [, seconds] = configuration.match(
      new RegExp(`^ +timeout ${side} ([0-9]+)s$`, "m"),
    )!;
    assert.ok(
      Number(seconds) > idle,
      `timeout ${side} ends before the server's own clock`,
    );
  }
  const [, all] = configuration.match(/^ +maxconn ([0-9]+)/m)!;
  const [, each] = configuration.match(
    /^ +default-server .*maxconn ([0-9]+)/m,
  )!;
  assert.ok(Number(each) < places, "the check has no place in a full server");
  assert.ok(
    Number(all) > 3 * Number(each),
    "three full servers are not filled",
  );
});
