# A user's login shell is another one. $1: the shell (dash, zsh, fish, tcsh, nologin, …)  $2: the user (jarvis)
shell=$(command -v "$1")
grep -qxF "$shell" /etc/shells || echo "$shell" >>/etc/shells
usermod -s "$shell" "${2:-jarvis}"
