from diffusion_lessons.cli import main

main()
