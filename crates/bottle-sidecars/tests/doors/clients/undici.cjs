// undici as npm has it, newer than the one inside of Node, by its own way to a proxy: both its `fetch` and its `request`.
const { EnvHttpProxyAgent, fetch, request, setGlobalDispatcher } = require("undici");

setGlobalDispatcher(new EnvHttpProxyAgent({ allowH2: process.argv[2] === "h2" }));

// Who does not say that trailers are wanted may not get them from a proxy (RFC 9110, 6.5.1).
const headers = { te: "trailers" };

async function main() {
  for (let at = 3; at < process.argv.length; at += 2) {
    const [method, url] = process.argv.slice(at, at + 2);
    const body = method === "POST" ? "a body" : undefined;
    try {
      const answer = await fetch(url, { method, body });
      const content = await answer.arrayBuffer();
      console.log(method, url, answer.status, content.byteLength, [...answer.headers].length > 100, answer.headers.get("x-sha"));
    } catch {
      console.log(method, url, "failed");
    }
    try {
      const answer = await request(url, { method, body, headers });
      const content = await answer.body.arrayBuffer();
      console.log(method, url, answer.statusCode, content.byteLength, answer.headers["x-sha"], answer.trailers["x-sum"]);
    } catch {
      console.log(method, url, "failed");
    }
  }
}

main();
