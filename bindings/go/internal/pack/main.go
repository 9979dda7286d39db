// Command pack makes the zip of a module: pack DIRECTORY MODULE@VERSION ZIP.
package main

import (
	"archive/zip"
	"io/fs"
	"log"
	"os"
)

func main() {
	directory, prefix := os.DirFS(os.Args[1]), os.Args[2]
	to, err := os.Create(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	packed := zip.NewWriter(to)
	err = fs.WalkDir(directory, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(directory, path)
		if err != nil {
			return err
		}
		file, err := packed.Create(prefix + "/" + path)
		if err != nil {
			return err
		}
		_, err = file.Write(text)
		return err
	})
	if err == nil {
		err = packed.Close()
	}
	if err != nil {
		log.Fatal(err)
	}
}
