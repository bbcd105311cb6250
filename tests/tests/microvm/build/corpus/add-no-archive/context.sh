echo text | gzip -n >gzip.gz; echo "no tar at all" >truncated.tar; mkdir dir; echo a >dir/a; : >empty.tar; cp gzip.gz dir/x.gz
