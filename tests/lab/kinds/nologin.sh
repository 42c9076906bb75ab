# Only root is let in, as while a host boots or goes down (pam_nologin). $@: what it says
echo "${*:-System is going down for maintenance}" >/run/nologin
