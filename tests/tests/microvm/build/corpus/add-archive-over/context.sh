mkdir -p in/d; echo a >in/a; echo b >in/d/b; ln in/a in/hard; ln -s d/b in/soft; chmod 4750 in/a; chmod 700 in/d
tar -C in --mtime=@0 --owner=5 --group=6 --numeric-owner -cf plain.tar a d hard soft
echo x >x; rm -r in
