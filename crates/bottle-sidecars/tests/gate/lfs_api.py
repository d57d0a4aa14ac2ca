"""A stand-in of an LFS server, beside `git http-backend` in https.py: git-lfs's docs/api (batch.md, basic-transfers.md), and what its
http-batch-request-schema.json asks of a request. It keeps objects where git-lfs itself does in a bare repository.

A file `lfs.json` beside the log says how it misbehaves.
"""
import hashlib, json, os, re, time

MEDIA = "application/vnd.git-lfs+json"
KEY = "RemoteAuth of-the-action"


def serves(path):
    return "/info/lfs/" in path or path.startswith("/lfs-store/")


def path_of(root, repository, oid):
    return os.path.join(root, repository, "lfs", "objects", oid[:2], oid[2:4], oid)


def check(request):
    """What the schema asks for."""
    assert request["operation"] in ("upload", "download"), request
    assert all(isinstance(one, str) for one in request.get("transfers", [])), request
    assert request.get("hash_algo", "sha256") == "sha256", request
    assert set(request) <= {"operation", "transfers", "hash_algo", "objects", "ref"}, request
    assert request["objects"], request
    for one in request["objects"]:
        assert set(one) <= {"oid", "size", "authenticated"} and re.fullmatch("[0-9a-f]{64}", one["oid"]), one
        assert isinstance(one["size"], int) and one["size"] >= 0, one


def answer(handler, root, mode, log, body):
    """Answers a request whose credential was checked, or that is for the store."""
    path = handler.path.partition("?")[0]
    reply = lambda code, value: handler.answer(code, [("Content-Type", MEDIA)], json.dumps(value).encode())
    base = mode.get("href") or f"{handler.scheme}://{handler.headers['Host']}"
    if path.endswith("/info/lfs/objects/batch"):
        repository = path.removesuffix("/info/lfs/objects/batch").strip("/")
        assert handler.command == "POST" and handler.headers["Accept"].startswith(MEDIA), handler.headers
        assert handler.headers["Content-Type"].startswith(MEDIA), handler.headers
        request = json.loads(body)
        check(request)
        log("batch " + request["operation"] + " " + " ".join(one["oid"] for one in request["objects"]))
        if mode.get("batch"):
            return reply(mode["batch"], {"message": "so says the server"})
        if mode.get("batch_redirect"):
            return handler.answer(307, [("Location", mode["batch_redirect"])])
        objects = []
        for one in request["objects"]:
            oid, size = one["oid"], one["size"]
            is_there = os.path.exists(path_of(root, repository, oid))
            action = lambda what: {"href": f"{base}/lfs-store/{repository}/{oid}/{what}", "header": {"Authorization": KEY}}
            entry = {"oid": oid, "size": size + mode.get("size", 0)}
            if mode.get("error"):
                entry["error"] = {"code": mode["error"], "message": "not this one"}
            elif request["operation"] == "download" and not is_there:
                entry["error"] = {"code": 404, "message": "Object does not exist"}
            elif request["operation"] == "download":
                entry["actions"] = {"download": action("download")}
            elif not is_there:
                entry["actions"] = {"upload": action("upload"), "verify": action("verify")}
            objects.append(entry)
        return reply(200, {"transfer": mode.get("transfer", "basic"), "objects": objects})
    _, _, repository, oid, what = path.split("/")
    log(f"{handler.command} {what} {oid}")
    if handler.headers["Authorization"] != KEY:
        return reply(403, {"message": "not the action's header"})
    if mode.get(what):
        return reply(mode[what], {"message": "so says the store"})
    if mode.get("redirect"):
        return handler.answer(302, [("Location", mode["redirect"])])
    file = path_of(root, repository, oid)
    if what == "download":
        with open(file, "rb") as content:
            content = content.read()
        content = {"changed": b"x" * len(content), "short": content[:-1], "long": content + b"x"}.get(mode.get("bytes"), content)
        return handler.answer(200, [("Content-Type", "application/octet-stream")], content)
    if what == "verify":
        assert json.loads(body) == {"oid": oid, "size": os.path.getsize(file)}, body
        return handler.answer(200, [])
    assert hashlib.sha256(body).hexdigest() == oid and handler.headers["Content-Length"] == str(len(body))
    time.sleep(mode.get("delay", 0))
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "wb") as content:
        content.write(body)
    handler.answer(200, [])
