from diffusion_lessons.makers.build import main

main()
