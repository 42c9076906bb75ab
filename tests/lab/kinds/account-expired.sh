# A user's account has expired. $1: the user (jarvis)
chage -E 1 "${1:-jarvis}"
