#!/bin/sh
# Starts sshd. AUTHORIZED_KEYS: public keys that may log in as git, one a line. The host key is made here, at the first
# start, unless /etc/ssh/keys already has one.
set -eu
if [ -z "$(ls -A /etc/ssh/keys)" ]; then
  ssh-keygen -q -t ed25519 -N '' -C upstream -f /etc/ssh/keys/ssh_host_ed25519_key
fi
chmod 0600 /etc/ssh/keys/*_key
printf '%s\n' "${AUTHORIZED_KEYS:-}" >/home/git/.ssh/authorized_keys
chown git:git /home/git/.ssh/authorized_keys
chmod 0600 /home/git/.ssh/authorized_keys
set --
for key in /etc/ssh/keys/*_key; do set -- "$@" -h "$key"; done
exec /usr/sbin/sshd -D -e -p 22 -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no \
  -o PermitRootLogin=no -o AllowUsers=git -o UsePAM=no "$@"
