// SPDX-License-Identifier: 0BSD

/** Three servers behind HAProxy: what README.md beside this file promises. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Script } from "../../lib/parts/process.ts";
import { type Address, talk, writeAll } from "../../lib/parts/tcp.ts";
import { has } from "../machine.ts";
import {
  ask,
  readSlowly,
  SERVER,
  type Server,
  startClient,
  startServer,
} from "../pair.ts";

const FOLDER = import.meta.dirname!;
const CHECKS = join(FOLDER, "..", "..", "lib", "conformance.ts");
const configuration = await Deno.readTextFile(join(FOLDER, "haproxy.cfg"));

const text = new TextEncoder().encode("perché no? ".repeat(500_000));
const upper = new TextEncoder().encode("PERCHÉ NO? ".repeat(500_000));

interface Service extends AsyncDisposable {
  /** Where HAProxy listens. */
  address: Address;
  haproxy: Script;
  /** The servers that the configuration calls one, two and three. */
  servers: Server[];
}

/** The configuration with one change. */
function changed(pattern: string | RegExp, replacement: string): string {
  assert.notEqual(configuration.search(pattern), -1);
  return configuration.replace(pattern, replacement);
}

async function startService(content = configuration): Promise<Service> {
  await using stack = new AsyncDisposableStack();
  const servers: Server[] = [];
  while (servers.length < 3) {
    servers.push(stack.use(await startOn(freePort())));
  }
  const file = await Deno.makeTempFile({ suffix: ".cfg" });
  stack.defer(() => Deno.remove(file));
  await Deno.writeTextFile(file, content);

  const ports = [freePort(), ...servers.map(({ address }) => address.port)];
  const [PORT, PORT1, PORT2, PORT3] = ports.map(String);
  const haproxy = stack.use(
    Script.command(["haproxy", "-db", "-f", file], {
      env: { PORT: PORT!, PORT1: PORT1!, PORT2: PORT2!, PORT3: PORT3! },
    }),
  );
  // HAProxy listens before it sends the first check, which says "check\n".
  for (const { script } of servers) {
    await script.stdoutMatch(/closed, 6 bytes in, 6 bytes out/);
  }
  const started = stack.move();
  return {
    address: { hostname: "127.0.0.1", port: ports[0]! },
    haproxy,
    servers,
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
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

/** Twelve new clients, one after the other, are all answered. */
async function expectAnswers(address: Address): Promise<void> {
  for (let number = 1; number <= 12; number++) {
    assert.equal(await talk(address, `new ${number}\n`), `NEW ${number}\n`);
  }
}

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

function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name: `haproxy - ${name}`, ignore: !has("haproxy"), fn });
}

test("every byte comes through, after a half-close too", async (t) => {
  await using service = await startService();
  const { address } = service;

  await t.step("to six that read slowly", async () => {
    await Promise.all([1, 2, 3, 4, 5, 6].map(() => exchangeSlowly(address)));
  });

  await t.step("to client.ts", async () => {
    await using client = startClient(address);
    await client.write(text);
    await client.closeInput();
    const { code, stdout, stderr } = await client.ending();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.ok(stdout === "PERCHÉ NO? ".repeat(500_000), "another reply");
  });

  await t.step("to the checks for any such service", async () => {
    const args = ["--port", `${address.port}`, "--strict"];
    await using checks = Script.start(CHECKS, { args });
    const { code, stdout } = await checks.ending();
    assert.equal(code, 0, `a promise was not kept:\n${stdout}`);
  });
});

test("connections are spread over all servers, checks leave no reset", async () => {
  await using service = await startService();
  close(await open(service.address, 30));
  const counts = await Promise.all(service.servers.map(served));
  assert.deepEqual(counts, [10, 10, 10]);
  for (const { script } of service.servers) {
    assert.doesNotMatch(script.stdout, /reset by the client/);
  }
});

test("a killed server costs its own connections and no others", async () => {
  // Its checks never find out, so that only "redispatch" can help new clients.
  await using service = await startService(changed("inter 1s", "$& fall 1000"));
  const { address, servers: [, two] } = service;
  const connections = await open(address, 9);
  two!.script.kill("SIGKILL");
  await two!.script.ending();

  let kept = 0;
  for (const connection of connections) {
    const reply = await ask(connection, "still here\n").catch(() => ""); // a reset
    if (reply === "STILL HERE\n") kept += 1;
  }
  assert.equal(kept, 6, "the killed server had a third of them");
  await expectAnswers(address);
  close(connections);
});

test("a server that does not answer is left out, until it does", async () => {
  // Checks come twice as often, so that nobody waits for this test.
  await using service = await startService(changed("inter 1s", "inter 500ms"));
  const { address, haproxy, servers: [, two] } = service;
  two!.script.kill("SIGSTOP"); // the system still accepts for it
  await haproxy.stderrMatch(/uppercase\/two is DOWN/);
  await expectAnswers(address);

  two!.script.kill("SIGKILL");
  await two!.script.ending();
  await using again = await startOn(two!.address.port);
  await haproxy.stderrMatch(/uppercase\/two is UP/);
  close(await open(address, 3));
  assert.equal(await served(again), 1, "started again, it is used again");
});

test("when all servers are full, clients wait for a place", async () => {
  await using service = await startService(changed("maxconn 990", "maxconn 2"));
  const connections = await open(service.address, 6);
  let answered = 0;
  const waiting = [1, 2, 3, 4].map(async (number) => {
    const reply = await talk(service.address, `${number}\n`);
    answered += 1;
    return reply;
  });
  for (const connection of connections) {
    assert.equal(await ask(connection, "busy\n"), "BUSY\n");
  }
  assert.equal(answered, 0, "there was no place yet");
  connections.shift()!.close();
  assert.deepEqual(await Promise.all(waiting), ["1\n", "2\n", "3\n", "4\n"]);
  close(connections);
});

test("README.md's limit for an address", async () => {
  const readme = await Deno.readTextFile(join(FOLDER, "README.md"));
  const [limit] = readme.match(/^ *stick-table .*\n( *tcp-request .*\n)+/m)!;
  await using service = await startService(
    changed(/^ +bind .*\n/m, `$&${limit}`),
  );
  const connections = await open(service.address, 20);
  await assert.rejects(async () => {
    using refused = await Deno.connect(service.address);
    assert.equal(await ask(refused, "me too\n"), "ME TOO\n");
  }, "the 21st from one address is turned away");
  connections.shift()!.close();
  let reply = "";
  while (reply !== "AGAIN\n") { // HAProxy counts it a moment longer
    reply = await talk(service.address, "again\n").catch(() => "");
  }
  close(connections);
});

test("the PROXY header comes back as text", async () => {
  await using service = await startService(
    changed("default-server", "$& send-proxy"),
  );
  assert.match(
    await talk(service.address, "hello\n"),
    /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nHELLO\n$/,
  );
});

Deno.test("haproxy - the configuration fits the limits of server.ts", async () => {
  await using script = Script.start(SERVER, { args: ["--help"] });
  const { stdout: help } = await script.ending();
  const limit = (option: string) =>
    Number(help.match(new RegExp(`${option} [^]*?default ([0-9]+)`))![1]);
  const numbers = (pattern: RegExp) =>
    [...configuration.matchAll(pattern)].map(([, number]) => Number(number));

  const timeouts = numbers(/timeout (?:client|server)(?:-fin)? (\d+)s/g);
  assert.equal(timeouts.length, 4);
  assert.ok(
    Math.min(...timeouts) > limit("--idle-timeout"),
    "a timeout ends before the server's own clock",
  );
  const [all, each] = numbers(/maxconn (\d+)/g);
  assert.ok(
    each! < limit("--max-connections"),
    "the check has no place in a full server",
  );
  assert.ok(all! > 3 * each!, "three full servers are not filled");
});
