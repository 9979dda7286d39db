module example/chat

go 1.21
