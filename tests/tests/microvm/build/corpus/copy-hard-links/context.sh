mkdir dir; echo a >dir/a; ln dir/a dir/b; ln dir/a dir/c
