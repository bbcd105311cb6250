echo "only text" >text; tar --mtime=@0 --owner=0 --group=0 -cf plain.tar text; rm text
