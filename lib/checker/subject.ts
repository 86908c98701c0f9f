// SPDX-License-Identifier: 0BSD

/** What the checks ask, a service or a client, and how it fails. */

import { within } from "../parts/waits.ts";

/** A promise that is not kept, as a person has to read it. */
export class Broken extends Error {
  /** Names the three things that a person has to know. */
  constructor(
    /** What was sent, or typed. */
    readonly sent: string,
    /** What came back. */
    readonly came: string,
    /** What a program that behaves so usually does wrong, and what to do instead. */
    public usualCause: string,
  ) {
    super(`sent ${sent}; came ${came}: ${usualCause}`);
  }
}

/** A reply that came after the time for it. */
export class TooSlow extends Error {}

/** A program under test. What it is asked has a time that ends. */
export abstract class Subject {
  /** It sends or answers once on a connection, as the textbook's do, and right. */
  oneReply = false;
  /** What was wrong with its first reply. */
  firstFault: Broken | undefined;
  /** So many connections had a reply. */
  served = 0;
  /** Nothing listens any more. */
  hasEnded = false;
  /** The causes that were found already. */
  readonly told: Set<string> = new Set();
  /** The time of what is asked is over: nothing is waited for any more. */
  stopped = false;
  /** Settles when this time is over. */
  stop: PromiseWithResolvers<undefined> = Promise.withResolvers<undefined>();

  /** Takes the longest wait in which nothing moves: seconds. */
  constructor(readonly timeout: number) {}

  /** Finds out how it talks. Throws an error if it cannot be asked at all. */
  abstract meet(): Promise<void>;
  /** Whether it can be asked any more: what each check starts anew can. */
  answers(): Promise<boolean> {
    return Promise.resolve(true);
  }
  /** Closes all that was opened in order to ask. */
  protected abstract leave(): Promise<void>;

  /**
   * Lets an action take so many milliseconds. Then all its waits end, and it
   * gets no new connection. What it leaves open is closed.
   */
  async during<T>(time: number, action: () => Promise<T>): Promise<T> {
    this.stopped = false;
    this.stop = Promise.withResolvers();
    const clock = setTimeout(() => {
      this.stopped = true;
      this.stop.resolve(undefined);
    }, time);
    try {
      return await action();
    } finally {
      clearTimeout(clock);
      await this.leave();
    }
  }

  /** A promise's value, or undefined if it takes longer than any wait may. */
  wait<T>(
    promise: Promise<T>,
    timeout: number = this.timeout,
    moved?: () => unknown,
  ): Promise<T | undefined> {
    const ended = Promise.race([promise, this.stop.promise]);
    return within(timeout, ended, moved);
  }
}
