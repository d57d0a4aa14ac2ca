# shellcheck shell=bash
# shellcheck disable=SC2034 # those that source this read what it sets
# Claude Code as it is published on npm, pinned; for the action and for the scripts. Its licence does not let us hand it on.

CLAUDE_VERSION=2.1.330

# claude_integrity MACHINE: the SHA-512 of npm's package for x64 or arm64, in base64.
claude_integrity() {
  case $1 in
    x64) echo '9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ==' ;;
    arm64) echo 'V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA==' ;;
  esac
}

# claude_sum MACHINE: the SHA-256 of the program in it.
claude_sum() {
  case $1 in
    x64) echo f390eaa0814e6a1bff74cbb47acb74cb9c89d30ced809fe0af5af00c7bfe8ebb ;;
    arm64) echo 6016f90cac783e367fb1aa97c768a2efb94a0128a5b46b70fb3d8fcbbd9dd444 ;;
  esac
}
