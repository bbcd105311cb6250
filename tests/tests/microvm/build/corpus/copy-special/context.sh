mkdir dir; mkfifo dir/fifo; ln -s nowhere dir/dangling; : >dir/empty; head -c 100000 /dev/zero | tr "\\0" "\\253" >dir/binary
