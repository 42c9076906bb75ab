object ba329dfef1c7f4ac1f4a0ca8f6aeba64adeff1464423c919686fb54f6b6b1b52
type commit
tag release/cortex/20261120T031403Z-ba329dfef1c7
tagger Ada <ops@example.org> 1795144443 +0000

Release cortex at ba329dfef1c7: change 1

cortex runs /nix/store/0ccbf28618c0d6ada7a1f1514f6eff12-nixos-system-cortex
2700 paths, 8000000000 bytes, built by forge for x86_64-linux
2 upgraded; -4096 bytes
gates: preflight passed, build passed, validate passed (3.6 s)
generation 141 -> 142

-----BEGIN NIXGATE EVIDENCE-----
{"_type":"https://in-toto.io/Statement/v1","predicate":{"before":{"toplevel":"/nix/store/00000000000000000000000000000000-before"},"builder":"forge","by":"Ada <ops@example.org>","bytes":8000000000,"closure_digest":"0ccbf28618c0d6ada7a1f1514f6eff121c06170d32ff50af07cdf00753dd70bd","diff":{"added":0,"bytes_delta":-4096,"downgraded":0,"lines":["nginx 1.26.1 -> 1.26.2"],"rebuilt":0,"removed":0,"upgraded":2},"drv":"/nix/store/1c06170d32ff50af07cdf00753dd70bd-nixos-system-cortex.drv","flake_lock_sha256":"0c030586945fe504b604ecc2e875c38ede400cd5cd73da9730302162e6b02c6f","gates":[{"findings":["nothing unusual"],"gate":"preflight","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"build","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"validate","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"}],"generation_after":142,"generation_before":141,"nar_hash":"sha256:0ccbf28618c0d6ada7a1f1514f6eff121c06170d32ff50af07cdf00753dd70bd","nix_version":"Nix 2.26.3","paths":2700,"plan":{"restart":["nginx.service"]},"system":"x86_64-linux","target":"cortex","toplevel":"/nix/store/0ccbf28618c0d6ada7a1f1514f6eff12-nixos-system-cortex"},"predicateType":"https://git-nixgate.dev/evidence/v1","subject":[{"digest":{"gitCommit":"ba329dfef1c7f4ac1f4a0ca8f6aeba64adeff1464423c919686fb54f6b6b1b52"},"name":"commit"},{"digest":{"gitTree":"6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"},"name":"tree"}]}
-----END NIXGATE EVIDENCE-----

Nixgate-Schema: 1
Nixgate-Target: cortex
Nixgate-Kind: release
Nixgate-Seq: 1
Nixgate-Evidence-SHA256: 1aa661073729be4f3b45c61b49792254f3f6a36fe0f6539aaa3f5b8eb7372af1
