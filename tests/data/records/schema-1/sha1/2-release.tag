object b834e89c9b6054257b6018b939d4f3acc16b6a3b
type commit
tag release/cortex/20261120T031404Z-b834e89c9b60
tagger Ada <ops@example.org> 1795144444 +0000

Release cortex at b834e89c9b60: change 2

cortex runs /nix/store/78d47e4bcf00d5ace3719860a7879cbe-nixos-system-cortex
2700 paths, 8000000000 bytes, built by forge for x86_64-linux
2 upgraded; -4096 bytes
gates: preflight passed, build passed, validate passed (3.6 s)
generation 141 -> 142

-----BEGIN NIXGATE EVIDENCE-----
{"_type":"https://in-toto.io/Statement/v1","predicate":{"before":{"toplevel":"/nix/store/00000000000000000000000000000000-before"},"builder":"forge","by":"Ada <ops@example.org>","bytes":8000000000,"closure_digest":"78d47e4bcf00d5ace3719860a7879cbecbf3ad85f9c830ad03833b33643d54d0","diff":{"added":0,"bytes_delta":-4096,"downgraded":0,"lines":["nginx 1.26.1 -> 1.26.2"],"rebuilt":0,"removed":0,"upgraded":2},"drv":"/nix/store/cbf3ad85f9c830ad03833b33643d54d0-nixos-system-cortex.drv","flake_lock_sha256":"0c030586945fe504b604ecc2e875c38ede400cd5cd73da9730302162e6b02c6f","gates":[{"findings":["nothing unusual"],"gate":"preflight","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"build","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"validate","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"}],"generation_after":142,"generation_before":141,"nar_hash":"sha256:78d47e4bcf00d5ace3719860a7879cbecbf3ad85f9c830ad03833b33643d54d0","nix_version":"Nix 2.26.3","paths":2700,"plan":{"restart":["nginx.service"]},"system":"x86_64-linux","target":"cortex","toplevel":"/nix/store/78d47e4bcf00d5ace3719860a7879cbe-nixos-system-cortex"},"predicateType":"https://git-nixgate.dev/evidence/v1","subject":[{"digest":{"gitCommit":"b834e89c9b6054257b6018b939d4f3acc16b6a3b"},"name":"commit"},{"digest":{"gitTree":"4b825dc642cb6eb9a060e54bf8d69288fbee4904"},"name":"tree"}]}
-----END NIXGATE EVIDENCE-----

Nixgate-Schema: 1
Nixgate-Target: cortex
Nixgate-Kind: release
Nixgate-Seq: 2
Nixgate-Previous: 96039260fa6facdbe83a69b457d9e41fb06c483a
Nixgate-Previous-SHA256: 7c527293ab89db810d7d0be21c0b4d2001e38f175c19faccf64e4738c6169561
Nixgate-Evidence-SHA256: c62de112a3dfd4245768d500f440a4c37c152f75e083a43aac52e0089c3c490a
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgzAy2MlKIq11bDX6XVXsJ5VdHgK
N4PN81rqSX2UT0W/0AAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
AAAAQEsU2hlZ1shU039CRQHt5cSozK9O9NJvW1oAVpLV4/DAKpS5ewqV0moIWUEtgsTveX
mhb2tW3GrcXuzf7HqicgI=
-----END SSH SIGNATURE-----
