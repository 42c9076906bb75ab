object 62574c6111b6bf43a34195dfc21b4629d9ec0e0b
type commit
tag release/cortex/20261120T031403Z-62574c6111b6
tagger Ada <ops@example.org> 1795144443 +0000

Release cortex at 62574c6111b6: change 1

cortex runs /nix/store/35c0405db6c984316a26920b1d232c8e-nixos-system-cortex
2700 paths, 8000000000 bytes, built by forge for x86_64-linux
2 upgraded; -4096 bytes
gates: preflight passed, build passed, validate passed (3.6 s)
generation 141 -> 142

-----BEGIN NIXGATE EVIDENCE-----
{"_type":"https://in-toto.io/Statement/v1","predicate":{"before":{"toplevel":"/nix/store/00000000000000000000000000000000-before"},"builder":"forge","by":"Ada <ops@example.org>","bytes":8000000000,"closure_digest":"35c0405db6c984316a26920b1d232c8ebb424ff4d7fd8294fb2ba3eac47155ed","diff":{"added":0,"bytes_delta":-4096,"downgraded":0,"lines":["nginx 1.26.1 -> 1.26.2"],"rebuilt":0,"removed":0,"upgraded":2},"drv":"/nix/store/bb424ff4d7fd8294fb2ba3eac47155ed-nixos-system-cortex.drv","flake_lock_sha256":"0c030586945fe504b604ecc2e875c38ede400cd5cd73da9730302162e6b02c6f","gates":[{"findings":["nothing unusual"],"gate":"preflight","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"build","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"validate","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"}],"generation_after":142,"generation_before":141,"nar_hash":"sha256:35c0405db6c984316a26920b1d232c8ebb424ff4d7fd8294fb2ba3eac47155ed","nix_version":"Nix 2.26.3","paths":2700,"plan":{"restart":["nginx.service"]},"system":"x86_64-linux","target":"cortex","toplevel":"/nix/store/35c0405db6c984316a26920b1d232c8e-nixos-system-cortex"},"predicateType":"https://git-nixgate.dev/evidence/v1","subject":[{"digest":{"gitCommit":"62574c6111b6bf43a34195dfc21b4629d9ec0e0b"},"name":"commit"},{"digest":{"gitTree":"4b825dc642cb6eb9a060e54bf8d69288fbee4904"},"name":"tree"}]}
-----END NIXGATE EVIDENCE-----

Nixgate-Schema: 1
Nixgate-Target: cortex
Nixgate-Kind: release
Nixgate-Seq: 1
Nixgate-Evidence-SHA256: 87c700ace8c3665eac3c7a4e203a5b8d4f2e382be0ee0e143cfcf06c47a6792d
