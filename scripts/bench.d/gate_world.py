"""An sshd, upstreams and gates in front of them, for the benchmarks of git-gate.

DIRECTORY SIDECARS LINK are the first words of the command line; `-` in place of the link: this process does its part.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

DIR, SIDECARS, LINK = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


GATE_PORT, SSH_PORT = free_port(), free_port()
ENV = {
    "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
    "HOME": str(DIR / "home"),
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "Bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
    "GIT_SSH_COMMAND": f"ssh -F /dev/null -i {DIR}/sshd/guest -o IdentitiesOnly=yes -o BatchMode=yes "
    f"-o UserKnownHostsFile={DIR}/known_hosts -o StrictHostKeyChecking=yes",
}


def say(text):
    print(f"    {text}", file=sys.stderr, flush=True)


def run(*command, cwd=None, data=None, ok=(0,)):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=ENV, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if done.returncode not in ok:
        sys.exit(f"{' '.join(str(word) for word in command)} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def timed(*command, cwd=None, ok=(0,)):
    start = time.monotonic()
    run(*command, cwd=cwd, ok=ok)
    return time.monotonic() - start


def until(what, check):
    for _ in range(1000):
        if check():
            return
        time.sleep(0.01)
    sys.exit(f"not in time: {what}")


def forward():
    """The link's part, where speed does not count."""

    def pump(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    with socket.create_server(("127.0.0.1", GATE_PORT)) as listener:
        while True:
            guest, _ = listener.accept()
            gate = socket.socket(socket.AF_UNIX)
            gate.connect(str(DIR / "gate/doors/git-gate.sock"))
            for ends in [(guest, gate), (gate, guest)]:
                threading.Thread(target=pump, args=ends, daemon=True).start()


class World:
    """An sshd, upstreams, and gates in front of them."""

    def __init__(self):
        for name in ["home", "sshd", "upstream", "work"]:
            (DIR / name).mkdir(parents=True)
        for name in ["host", "guest"]:
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", DIR / "sshd" / name)
        self.host_key = " ".join((DIR / "sshd/host.pub").read_text().split()[:2])
        (DIR / "known_hosts").write_text(f"[localhost]:{SSH_PORT} {self.host_key}\n")
        (DIR / "sshd/config").write_text(
            f"ListenAddress 127.0.0.1:{SSH_PORT}\nHostKey {DIR}/sshd/host\nAuthorizedKeysFile {DIR}/sshd/guest.pub\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n"
            "PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\nSetEnv SHLVL=1\n"
        )
        os.makedirs("/run/sshd", exist_ok=True)
        self.processes = []
        log = open(DIR / "sshd/log", "wb")
        self.processes.append(
            subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(DIR / "sshd/config")], stderr=log)
        )
        until("sshd answers", lambda: b"listening" in (DIR / "sshd/log").read_bytes())
        self.user = subprocess.check_output(["id", "-un"], text=True).strip()
        self.gate = None
        if LINK == "-":
            threading.Thread(target=forward, daemon=True).start()

    def url(self, name):
        return f"ssh://{self.user}@localhost:{SSH_PORT}{DIR}/upstream/{name}.git"

    def upstream(self, name):
        path = DIR / "upstream" / f"{name}.git"
        run("git", "init", "-q", "--bare", "-b", "main", path)
        return path

    def start_gate(self, names, checkout=None):
        """A gate that has seen nothing yet; with a checkout, it is given what that has, as the runner does."""
        self.stop_gate()
        home = DIR / "gate"
        if checkout:
            seed = home / "state/seed" / names[0]
            seed.mkdir(parents=True)
            tip = run("git", "rev-parse", "origin/main", cwd=checkout)
            (seed / "branches").write_text(f"{tip.decode().strip()} main\n")
            run("git", "pack-objects", "-q", "--revs", "--delta-base-offset", seed / "pack", cwd=checkout, data=tip)
        for name in ["state", "secrets", "doors"]:
            (home / name).mkdir(parents=True, exist_ok=True)
        key = home / "secrets/GIT_KEY"
        shutil.copy(DIR / "sshd/guest", key)
        policy = "version: 1\nsecrets: [GIT_KEY]\nupstreams:\n"
        for name in names:
            policy += (
                f"  - name: {name}\n    url: {self.url(name)}\n    identity: GIT_KEY\n"
                f"    known_host_key: {self.host_key}\n    push: {{ refs: ['refs/heads/**'] }}\n"
            )
        (home / "gate.yaml").write_text(policy)
        log = open(home / "log", "wb")
        dirs = [word for name in ["state", "secrets", "doors"] for word in (f"--{name}", str(home / name))]
        command = [SIDECARS, *dirs, "git-gate", "--config", str(home / "gate.yaml")]
        gate = subprocess.Popen(command, env=ENV, stderr=log)
        until("the gate is ready", lambda: b"git-gate ready" in (home / "log").read_bytes())
        self.gate = [gate]
        if LINK == "-":
            return
        link = [LINK, "forward", "--doors", str(home / "doors"), f"{GATE_PORT}=git-gate.sock"]
        self.gate.append(subprocess.Popen(link, env=ENV, stdout=log, stderr=log))
        time.sleep(0.2)

    def stop_gate(self):
        for process in self.gate or ():
            process.terminate()
            process.wait()
        self.gate = None
        shutil.rmtree(DIR / "gate", ignore_errors=True)

    def stop(self):
        self.stop_gate()
        for process in self.processes:
            process.terminate()
            process.wait()


def through(name):
    return f"git://127.0.0.1:{GATE_PORT}/{name}.git"
