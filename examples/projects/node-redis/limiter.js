// Lets each client make `most` requests in a window of `seconds`.

export class Limiter {
  constructor(redis, { most, seconds }) {
    this.redis = redis;
    this.most = most;
    this.seconds = seconds;
  }

  // Whether the client may make one more request now.
  async allows(client) {
    const count = await this.redis.incr(`limit:${client}`);
    return count <= this.most;
  }
}
