mkdir -p dir/sub; echo a >dir/a; echo x >x; chmod 755 x
