mkdir in; echo a >in/a; tar -C in --mtime=@0 --owner=0 --group=0 -cf plain.tar a; zstd -q plain.tar -o zstd.tar.zst; rm -r in plain.tar
