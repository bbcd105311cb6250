mkdir -p tree/sub lib; echo a >tree/sub/a; echo f >file; chmod 755 file; echo l >lib/from-archive; tar -C lib --mtime=@0 --owner=0 --group=0 -cf archive.tar from-archive; rm -r lib
