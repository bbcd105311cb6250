mkdir -p dir/sub/deep dir/empty
echo a >dir/a; echo b >dir/sub/b; echo c >dir/sub/deep/c; echo x >x; echo y >y; echo z >z.txt
chmod 640 dir/a; chmod 750 dir/sub; chmod 755 x; chmod 1777 dir/empty; ln -s a dir/link; ln -s /etc/passwd dir/absolute
