// Node has no proxy of its own until it is told to take those of the environment.
for (let at = 2; at < process.argv.length; at += 2) {
  const [method, url] = process.argv.slice(at, at + 2);
  try {
    const answer = await fetch(url, { method, body: method === "POST" ? "a body" : undefined });
    const body = await answer.arrayBuffer();
    console.log(method, url, answer.status, body.byteLength, [...answer.headers].length > 100, answer.headers.get("x-sha"));
  } catch {
    console.log(method, url, "failed");
  }
}
