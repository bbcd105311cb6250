mkdir -p in/d; echo a >in/a; echo b >in/d/b; ln in/a in/hard; ln -s d/b in/soft; chmod 4750 in/a; chmod 700 in/d
tar -C in --mtime=@0 --owner=5 --group=6 --numeric-owner -cf plain.tar a d hard soft

gzip -nc plain.tar >gzip.tgz; bzip2 -c plain.tar >bzip2.tar.bz2; xz -c plain.tar >xz.tar.xz; mv gzip.tgz g; cp g gzip.tgz; mv g misnamed
rm -r in
