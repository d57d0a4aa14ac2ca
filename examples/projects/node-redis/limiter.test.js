import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { createClient } from "redis";
import { Limiter } from "./limiter.js";

const redis = createClient({ url: process.env.REDIS_URL ?? "redis://cache:6379" });
before(() => redis.connect());
beforeEach(() => redis.flushAll());
after(() => redis.quit());

test("a client is limited, and another is not", async () => {
  const limiter = new Limiter(redis, { most: 2, seconds: 60 });
  assert.deepEqual([await limiter.allows("a"), await limiter.allows("a"), await limiter.allows("a")], [true, true, false]);
  assert.equal(await limiter.allows("b"), true);
});

test("a limit ends with its window", async () => {
  const limiter = new Limiter(redis, { most: 1, seconds: 1 });
  assert.deepEqual([await limiter.allows("a"), await limiter.allows("a")], [true, false]);
  await setTimeout(1200);
  assert.equal(await limiter.allows("a"), true);
});

test("a request in the window does not make it longer", async () => {
  const limiter = new Limiter(redis, { most: 1, seconds: 60 });
  await limiter.allows("a");
  await redis.expire("limit:a", 5);
  await limiter.allows("a");
  assert.ok((await redis.ttl("limit:a")) <= 5);
});
